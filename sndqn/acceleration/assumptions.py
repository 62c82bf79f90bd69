"""What accelerated updates assume of the update they stand for, and whether it is still true."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from sndqn.acceleration.interface import Update, moments


class Assumptions:
    """The memory and settings of an update at the time it was compiled.

    Compiled code keeps using them. Torch can put other memory under a parameter, as its
    `vector_to_parameters` does; an optimiser's state may be replaced; a callback may change γ. Then
    compiled code must be discarded: it would update stale tensors or use old settings.

    Args:
        update: The update, its networks already in their final memory.
    """

    def __init__(self, update: Update) -> None:
        self._update = update
        policy = update.policy
        self._networks = [*policy.parameters(), *policy.buffers()]
        self._places = _places(self._networks)
        self._moments = moments(update)
        self._settings = _settings(update)

    def networks_hold(self) -> bool:
        """Returns whether weights and singular vectors are where they were."""
        return _places(self._networks) == self._places

    def still_hold(self) -> bool:
        """Returns whether all is as it was, the optimiser's moments and the settings too."""
        now = zip(moments(self._update), self._moments, strict=True)
        same_settings = _settings(self._update) == self._settings
        return same_settings and self.networks_hold() and all(new is old for new, old in now)


def _places(tensors: Iterable[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _settings(update: Update) -> tuple[Any, ...]:
    """Returns the settings of the update, and those of sndqn's Adam that are in compiled code."""
    groups = update.policy.optimizer.param_groups if update.uses_sndqn_adam else []
    names = ("betas", "eps", "weight_decay", "decoupled_weight_decay")
    return update.settings, *(tuple(group[name] for name in names) for group in groups)
