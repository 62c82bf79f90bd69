"""The one door to `sndqn.acceleration`, a package that may be missing: training is slower then.

What is behind it computes what the algorithms compute, in less time.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from sndqn.algorithms.update import Result, Update
from sndqn.errors import ConfigError
from sndqn.policies import SpectralPolicyMixin
from sndqn.replay import Batch
from sndqn.spectral import SpectralLayer

# Compiling takes as long as it saves in some twenty thousand updates of a small network.
COMPILE_FROM_UPDATES = 25_000
# Of an update, on a CPU; measured: docs/performance.md, each trick by itself.
COST = "and take 1.2 (Atari) to 7 times (CartPole) as long"


class AcceleratedUpdates(Protocol):
    """Updates and greedy actions, prepared for samples of one shape."""

    @property
    def refine(self) -> Callable[[], object] | None:
        """What makes the policy's power iterations in place of its own `refine`; None: that."""

    def run_updates(self, samples: Batch, n_updates: int, n_converging: int) -> Result | None:
        """Makes updates, each on its share of samples; None, and nothing, for other samples.

        Args:
            samples: The samples of all the updates.
            n_updates: How many updates.
            n_converging: After how many of them, the first ones, σ is found anew.

        Returns:
            What the last update returns.
        """

    def greedy_actions(self, observations: Tensor) -> Tensor | None:
        """Returns the greedy actions; None for observations that it is not made for."""

    def still_valid(self) -> bool:
        """Says whether the update's memory and settings are still those it was made for."""


class Package(Protocol):
    """What the package offers."""

    def accelerate(
        self, update: Update, samples: Batch, n_updates: int, observations: Tensor
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


def find_acceleration() -> Package | None:
    """Imports the package, which takes a moment; None where it is missing.

    Or where this torch has no more what it is made of, which is torch's own affair: a warning says
    so then.
    """
    try:
        import sndqn.acceleration as package
    except ImportError as error:
        if error.name != "sndqn.acceleration":
            warn_of_eager_updates(error)
        return None
    return package


def warn_of_eager_updates(error: Exception) -> None:
    """Says in one line that updates are not accelerated, what that costs, and why."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    # One place for all: Python says a warning once for each.
    warnings.warn(f"Updates run without acceleration, {COST}: {reason}", stacklevel=1)


def require_acceleration() -> None:
    """Raises ConfigError where the package is missing."""
    if find_acceleration() is None:
        raise ConfigError(
            "compile: expected the package sndqn.acceleration, found none: install sndqn whole, or "
            "leave compile out (--compile never)"
        )


def is_wanted(asked: bool | Literal["auto"], n_updates: float, device: torch.device) -> bool:
    """Returns whether to accelerate so many updates; under "auto", if that saves time.

    Raises:
        ConfigError: It is asked for, and the package is missing.
    """
    if asked is True:
        require_acceleration()
    if asked != "auto":
        return asked
    enough = n_updates >= COMPILE_FROM_UPDATES and device.type == "cpu"
    found = find_acceleration() if enough else None
    return found is not None and found.compiler_available()


class Acceleration:
    """Stands in for an update where accelerated ones are prepared, and fit what they are given.

    Args:
        update: The update to accelerate.

    Attributes:
        due: Whether the next samples are to prepare accelerated updates.
        updates: The accelerated updates; None without.
    """

    def __init__(self, update: Update) -> None:
        self._update = update
        self.due = False
        self.updates: AcceleratedUpdates | None = None

    def begin(self, wanted: bool) -> None:
        """Discards what is valid no more, and has accelerated updates prepared if wanted."""
        if self.updates is not None and not self.updates.still_valid():
            self.updates = None
        self.due = wanted and self.updates is None

    def prepare(self, samples: Batch, n_updates: int, observations: Any) -> None:
        """Prepares accelerated updates for samples like these; warns where that is impossible.

        Args:
            samples: Samples for `n_updates` updates.
            n_updates: How many updates share the samples.
            observations: Observations to act on, in one array.
        """
        self.due = False
        package, policy = find_acceleration(), self._update.policy
        if package is None:
            return
        if isinstance(policy, SpectralPolicyMixin):
            policy.replaced_refine = None  # what is accelerated is the policy's own
        try:
            with _trusting_sigma(policy):  # as in training, wherever this is called
                seen = torch.as_tensor(observations, device=policy.device)
                updates = package.accelerate(self._update, samples, n_updates, seen)
        except Exception as error:
            warn_of_eager_updates(error)
            return
        self.updates = updates
        if isinstance(policy, SpectralPolicyMixin):
            policy.replaced_refine = updates.refine

    def run_updates(self, samples: Batch, n_updates: int, n_converging: int) -> Result | None:
        """Makes updates as `AcceleratedUpdates.run_updates`; None without any."""
        if self.updates is None:
            return None
        return self.updates.run_updates(samples, n_updates, n_converging)

    def greedy_actions(self, observations: Any) -> Tensor | None:
        """Returns the greedy actions; None without accelerated ones for such observations."""
        if self.updates is None or not isinstance(observations, Tensor):
            return None
        return self.updates.greedy_actions(observations)


@contextmanager
def _trusting_sigma(policy: torch.nn.Module) -> Iterator[None]:
    """Runs a block in which all layers trust their stored σ."""
    layers = [layer for layer in policy.modules() if isinstance(layer, SpectralLayer)]
    before = [layer.trusts_sigma for layer in layers]
    try:
        for layer in layers:
            layer.trusts_sigma = True
        yield
    finally:
        for layer, trusted in zip(layers, before, strict=True):
            layer.trusts_sigma = trusted
