"""What compiled and captured updates take for granted of their algorithm, and whether it holds."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor


class Assumptions:
    """What an algorithm's updates read as it was when they were compiled.

    Compiled code goes on with the memory and the numbers that it was made for. Torch can put other
    memory under a parameter, as its `vector_to_parameters` does; an optimiser's state may be
    replaced; a callback may change γ. What was compiled must not be used then, or it would train
    what nobody sees, or by settings of before.

    Args:
        algorithm: Whose; after its weights were laid out.
    """

    def __init__(self, algorithm: Any) -> None:
        self._algorithm = algorithm
        policy = algorithm.policy
        self._networks = [*policy.parameters(), *policy.buffers()]
        self._places = _places(self._networks)
        self._moments = algorithm.moments()
        self._settings = algorithm.update_settings()

    def networks_hold(self) -> bool:
        """Says whether weights and singular vectors are where they were."""
        return _places(self._networks) == self._places

    def hold(self) -> bool:
        """Says whether all is as it was, the optimiser's moments and the settings too."""
        moments = zip(self._algorithm.moments(), self._moments, strict=True)
        same_settings = self._algorithm.update_settings() == self._settings
        return same_settings and self.networks_hold() and all(new is old for new, old in moments)


def _places(tensors: Iterable[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
