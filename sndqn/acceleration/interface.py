"""What accelerated updates need of an algorithm; `sndqn.algorithms.learner.Learner` has it all."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from sndqn.replay import Batch

Result = tuple[Tensor, dict[str, Tensor]]
"""The priorities of the last update's samples, and what to log."""


class Algorithm(Protocol):
    """An algorithm whose updates can be traced and captured; see `Learner` for each part."""

    policy: Any
    device: torch.device

    @property
    def head(self) -> str:
        """The name of its networks' head."""

    @property
    def has_own_step(self) -> bool:
        """Whether policy and optimiser are sndqn's own, so that the step can be traced."""

    def update(self, batch: Batch) -> tuple[list[Tensor], Tensor, dict[str, Tensor]]:
        """Computes gradients, priorities and logs."""

    def apply_gradients(
        self, gradients: list[Tensor], sizes: Sequence[Tensor] | None = None
    ) -> None:
        """Makes the optimiser's step and the power iterations."""

    def step(self, batch: Batch) -> Result:
        """Makes one update."""

    def draw_noise(self) -> None:
        """Draws new noise for noisy layers."""

    def settles_sigma(self, index: int = 0) -> bool:
        """Says whether σ is found anew after an update."""

    def settle_sigma(self, index: int) -> None:
        """Finds σ anew where `settles_sigma`."""

    def moments(self) -> list[Any]:
        """Returns the optimiser's moments, group by group."""

    def step_sizes(self, n_updates: int) -> list[Any]:
        """Counts steps; returns the two sizes of each, by update and group."""

    def update_settings(self) -> list[Any]:
        """Returns every setting that updates read."""
