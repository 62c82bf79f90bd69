"""The one door to `sndqn.acceleration`, a package that may be missing: training is slower then.

What is behind it computes what the algorithms compute, in less time.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from torch import Tensor

from sndqn.errors import ConfigError
from sndqn.replay import Batch


class AcceleratedUpdates(Protocol):
    """Updates and greedy actions of one algorithm, prepared for samples of one shape."""

    @property
    def refine(self) -> Callable[[], object] | None:
        """What makes the policy's power iterations in place of its own `refine`; None: that."""

    def make_updates(
        self, samples: Batch, n_updates: int
    ) -> tuple[Tensor, dict[str, Tensor]] | None:
        """Does what `Learner.make_updates` does; None, and nothing, for what it is not made for."""

    def greedy_actions(self, observations: Tensor) -> Tensor | None:
        """Returns the greedy actions; None for observations that it is not made for."""

    def still_valid(self) -> bool:
        """Says whether the algorithm's memory and settings are still those it was made for."""


class Acceleration(Protocol):
    """What the package offers."""

    def accelerate(
        self, algorithm: Any, samples: Batch, n_updates: int, observations: Tensor
    ) -> AcceleratedUpdates:
        """Prepares faster updates; raises where it cannot."""

    def compiler_available(self) -> bool:
        """Says whether there is a C++ compiler."""

    def keep_freed_memory(self) -> None:
        """Makes the C library keep freed memory, in the whole process."""

    def choose_threads(self, models: Iterable[Any]) -> None:
        """Sets torch's threads to one where more do not make these algorithms' updates faster."""

    @property
    def ThreadsCallback(self) -> Callable[[Callable[[str], None]], Any]:
        """A callback that steps back to one thread while other processes use the cores."""


def find_acceleration() -> Acceleration | None:
    """Imports the package, which takes a moment; None where it is missing."""
    try:
        import sndqn.acceleration as package
    except ModuleNotFoundError as error:
        if error.name != "sndqn.acceleration":
            raise
        return None
    return package


def require_acceleration() -> None:
    """Raises ConfigError where the package is missing."""
    if find_acceleration() is None:
        raise ConfigError(
            "compile: expected the package sndqn.acceleration, found none: install sndqn whole, or "
            "leave compile out (--compile never)"
        )
