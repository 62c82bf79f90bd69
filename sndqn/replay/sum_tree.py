"""Priorities, and which of them a prefix of their sum ends in: proportional sampling."""

import numpy as np
import numpy.typing as npt

from sndqn.errors import ConfigError
from sndqn.replay.rows import Indices

Priorities = npt.NDArray[np.float64]

# Measured for batches of 32 among a million leaves: fewer children make more levels, each a few
# calls of NumPy; more children make longer sums. The root's are summed once a call, not once a
# prefix, so there may be more of them.
_CHILDREN = 64
_ROOT_CHILDREN = 1024

_SMALLEST = np.finfo(np.float64).smallest_normal
_LARGEST = np.finfo(np.float64).max


class SumTree:
    """Non-negative numbers, the leaves, under sums of 64, their sums, and so on up to a root.

    A node is always summed anew from its children, so rounding errors do not add up however many
    updates there are. After Schaul et al., "Prioritized Experience Replay", ICLR 2016
    (arXiv:1511.05952), appendix B.2.1. Memory pages that were never written cost nothing.

    Args:
        size: Number of leaves, all 0 at first.

    Attributes:
        highest: What a leaf may be at most, so that the sum of all is finite.

    Raises:
        ConfigError: `size` is not positive.
    """

    # Whether an update is under way. One that was interrupted leaves sums of other leaves.
    _is_updating = False

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ConfigError(f"size: expected 1 leaf or more, found {size}")
        self.size = size
        self.highest = float(_LARGEST / 2 / size)
        self.clear()

    def clear(self) -> None:
        """Makes all leaves 0."""
        # A row of a level are the children of one node above; the leaves are the first level.
        self._levels: list[Priorities] = []
        n_nodes = self.size
        while n_nodes > _ROOT_CHILDREN:
            n_nodes = -(-n_nodes // _CHILDREN)
            self._levels.append(np.zeros((n_nodes, _CHILDREN)))
        self._root: Priorities = np.zeros(n_nodes)
        self._is_updating = False

    @property
    def total(self) -> float:
        """Sums of all leaves."""
        self._finish_update()
        return float(self._root.sum())

    @property
    def nbytes(self) -> int:
        """Bytes of memory once every leaf was written."""
        return self._root.nbytes + sum(level.nbytes for level in self._levels)

    def get(self, indices: Indices) -> Priorities:
        """Returns some leaves, by numbers from 0 to size - 1."""
        leaves: Priorities = (self._levels[0] if self._levels else self._root).take(indices)
        return leaves

    def update(self, indices: Indices, values: Priorities) -> None:
        """Sets some leaves; of several values for one leaf the last holds.

        Values below the smallest normal number, 2e-308, count as 0: a CPU that flushes denormal
        numbers to zero, as sndqn's training has it do, then sees the same tree.

        Args:
            indices: Numbers of the leaves, shape (batch,).
            values: Shape (batch,).

        Raises:
            ValueError: A value is negative, not a number or above `highest`.
            IndexError: A number is that of no leaf.
        """
        values = self._checked(values)
        if indices.min(initial=0) < 0 or indices.max(initial=0) >= self.size:
            bad = indices[(indices < 0) | (indices >= self.size)][0]
            raise IndexError(f"expected leaves from 0 to {self.size - 1}, found {bad}")
        self._finish_update()
        self._is_updating = True
        for level in self._levels:
            level.reshape(-1)[indices] = values
            indices = indices // _CHILDREN
            values = level.take(indices, axis=0).sum(axis=1)
        self._root[indices] = values
        self._is_updating = False

    def _finish_update(self) -> None:
        """Sums all nodes anew after an update that was interrupted."""
        if not self._is_updating:
            return
        above = [level.reshape(-1) for level in self._levels[1:]] + [self._root]
        for level, sums in zip(self._levels, above, strict=True):
            sums[: len(level)] = level.sum(axis=1)
        self._is_updating = False

    def assign(self, values: Priorities) -> None:
        """Makes `values` the first leaves and all others 0: the very tree of one update after all.

        Args:
            values: At most `size` of them.

        Raises:
            ValueError: There are more, or one is negative, not a number or above `highest`.
        """
        if len(values) > self.size:
            raise ValueError(f"expected at most {self.size} leaves, found {len(values)}")
        values = self._checked(values)
        self.clear()
        for level in self._levels:
            level.reshape(-1)[: len(values)] = values
            values = level[: -(-len(values) // _CHILDREN)].sum(axis=1)
        self._root[: len(values)] = values

    def _checked(self, values: Priorities) -> Priorities:
        """Refuses what is no priority, and returns denormal numbers as 0."""
        lowest = values.min(initial=_LARGEST)
        # Written so that NaN, which both pass on, fails.
        if not (lowest >= 0 and values.max(initial=0.0) <= self.highest):
            bad = values[~((values >= 0) & (values <= self.highest))][0]
            raise ValueError(f"expected priorities from 0 to {self.highest:.3g}, found {bad}")
        return np.where(values < _SMALLEST, 0.0, values) if lowest < _SMALLEST else values

    def find(self, prefixes: Priorities) -> Indices:
        """Returns the leaf that each prefix of the sum ends in, never one of priority 0.

        Leaf i owns the numbers from the sum of the leaves before it, included, to that sum plus
        its own priority, excluded; the total itself is the last positive leaf's.

        Args:
            prefixes: Numbers from 0 to `total`, shape (batch,).

        Returns:
            Numbers of the leaves, shape (batch,).

        Raises:
            ValueError: All leaves are 0, or a prefix is out of range.
        """
        total = self.total
        if total == 0:
            raise ValueError("expected a priority above 0, found none")
        if not (prefixes.min(initial=0.0) >= 0 and prefixes.max(initial=0.0) <= total):
            bad = prefixes[~((prefixes >= 0) & (prefixes <= total))][0]
            raise ValueError(f"expected prefixes from 0 to the total, {total}, found {bad}")
        return self._descend(prefixes)

    def _descend(self, prefixes: Priorities) -> Indices:
        """Follows prefixes from the root to leaves, at each node to the child they end in."""
        sums = self._root.cumsum()
        rest = _below(prefixes, sums[-1])
        nodes = sums.searchsorted(rest, side="right")
        rest = rest - np.where(nodes > 0, sums.take(nodes - 1), 0.0)
        before = np.arange(len(prefixes)) * _CHILDREN - 1
        for level in reversed(self._levels):
            sums = level.take(nodes, axis=0).cumsum(axis=1)
            rest = _below(rest, sums[:, -1])
            child = (sums > rest[:, None]).argmax(axis=1)
            rest = rest - np.where(child > 0, sums.take(before + child), 0.0)
            nodes = nodes * _CHILDREN + child
        return nodes


def _below(prefixes: Priorities, totals: Priorities) -> Priorities:
    """Returns prefixes below the total of the node they end in, which by rounding they may exceed.

    The first child whose cumulative sum is above the prefix then exists, and is above 0 itself.
    """
    return np.minimum(prefixes, np.nextafter(totals, 0))
