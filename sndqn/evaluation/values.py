"""Q-values of many observations at once, each the same to the bit as alone.

A product of matrices takes other paths, and rounds differently, for other sizes of a batch, and on
some of these paths a row's rounding depends on its place. So batches are filled up to one of a few
sizes, for which trying has shown neither.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

# Convolutions over a whole screen gain nothing by larger batches, and waste what fills them up.
_LARGEST, _LARGEST_OF_SCREENS, _NUMBERS_OF_A_SCREEN = 32, 8, 4_096
_TRIES = 4


class NetworkValues:
    """The Q-function of a network: of one observation, or of several at once.

    A row depends neither on the other rows, nor on their number, nor on its place among them. On
    another number of threads, or another machine, its last bits may differ.

    Args:
        network: A Q-network; has `observation_space`.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._sizes: _Sizes | None = None

    def __call__(self, observation: Any) -> np.ndarray:
        """Returns the Q-values of one observation, shape (n_actions,)."""
        row: np.ndarray = self.of_many([observation])[0]
        return row

    @torch.no_grad()
    def of_many(self, observations: Sequence[Any]) -> np.ndarray:
        """Returns the Q-values of several observations, shape (n, n_actions)."""
        if self._sizes is None:
            self._sizes = _Sizes(self._network)
        parts = []
        for start in range(0, len(observations), self._sizes.largest):
            part = observations[start : start + self._sizes.largest]
            filled = [*part, *[part[0]] * (self._sizes.for_rows(len(part)) - len(part))]
            parts.append(_rows(self._network, filled)[: len(part)])
        return torch.cat(parts).cpu().numpy()


class _Sizes:
    """Sizes of batches whose rows are equal to the bit, in any place: found by trying.

    Args:
        network: A Q-network. It is tried on random observations.

    Attributes:
        largest: A size within which a row's place does not matter. All others are compared with it.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        space = copy.deepcopy(network.observation_space)  # an environment may draw from the first
        space.seed(0)
        is_screen = spaces.flatdim(space) >= _NUMBERS_OF_A_SCREEN
        self.largest = _LARGEST_OF_SCREENS if is_screen else _LARGEST
        self._drawn = [space.sample() for _ in range(self.largest)]
        self._rows = _rows(network, self._drawn)
        while not self._is_good(self.largest):
            self.largest //= 2
            self._drawn = self._drawn[: self.largest]
            self._rows = _rows(network, self._drawn)
        self._step = max(self.largest // 8, 1)
        self._good = {self.largest: True}

    def for_rows(self, n: int) -> int:
        """Returns the smallest good size for so many rows, up to `largest`."""
        smallest = -(-n // self._step) * self._step
        for size in range(smallest, self.largest, self._step):
            if size not in self._good:
                self._good[size] = self._is_good(size)
            if self._good[size]:
                return size
        return self.largest

    def _is_good(self, size: int) -> bool:
        """Says whether batches of a size give each observation its row, whatever its place."""
        for shift in range(1, 1 + _TRIES):
            order = [(place + shift) % len(self._drawn) for place in range(size)]
            found = _rows(self._network, [self._drawn[number] for number in order])
            if not torch.equal(found, self._rows[order]):
                return False
        return True


def _rows(network: nn.Module, observations: Sequence[Any]) -> Tensor:
    device = next(network.parameters()).device

    def stacked(parts: Sequence[Any]) -> Tensor:
        return torch.as_tensor(np.stack(parts), device=device)

    first = observations[0]
    values: Tensor = network(
        {key: stacked([each[key] for each in observations]) for key in first}
        if isinstance(first, dict)
        else stacked(observations)
    )
    return values


@contextmanager
def one_thread() -> Iterator[None]:
    """Has torch calculate in one thread, so that results do not depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
