"""What accelerated updates assume of their algorithm, and whether it is still true."""

from collections.abc import Iterable

from torch import Tensor

from sndqn.acceleration.interface import Algorithm


class Assumptions:
    """The memory and settings of an algorithm at the time its updates were compiled.

    Compiled code keeps using them. Torch can put other memory under a parameter, as its
    `vector_to_parameters` does; an optimiser's state may be replaced; a callback may change γ. Then
    compiled code must be discarded: it would update stale tensors or use old settings.

    Args:
        algorithm: The algorithm, its networks already in their final memory.
    """

    def __init__(self, algorithm: Algorithm) -> None:
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
