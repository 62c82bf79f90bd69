"""What accelerated updates need of an update; `sndqn.algorithms.update.Update` has it all."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from sndqn.optimizers import Moments
from sndqn.replay import Batch

Result = tuple[Tensor, dict[str, Tensor]]
"""The priorities of the last update's samples, and what to log."""


class Update(Protocol):
    """An update that can be traced and captured.

    Attributes:
        policy: Of sndqn or of Stable-Baselines3, with its networks and its optimiser.
        settings: A record that compares equal while no setting changes.
        groups: The groups of the optimiser that it steps, by index, and the parameters of each.
    """

    policy: Any
    settings: Any
    groups: list[tuple[int, list[Any]]]

    @property
    def uses_sndqn_adam(self) -> bool:
        """Whether policy and optimiser are sndqn's own, so that the step can be traced."""

    def __call__(self, batch: Batch) -> Result:
        """Makes an update."""

    def gradients(self, batch: Batch) -> tuple[list[Tensor], Tensor, dict[str, Tensor]]:
        """Computes gradients, priorities and logs."""

    def step(self, gradients: list[Tensor], sizes: Sequence[Tensor] | None = None) -> None:
        """Makes the optimiser's step and the power iterations."""

    def draw_noise(self) -> None:
        """Draws new noise for noisy layers."""

    def converge_sigma(self) -> None:
        """Finds σ anew."""


def moments(update: Update) -> list[Moments]:
    """Returns what sndqn's Adam remembers, group by group; nothing of another optimiser."""
    groups = update.groups if update.uses_sndqn_adam else []
    return [update.policy.optimizer.moments(index, parameters) for index, parameters in groups]
