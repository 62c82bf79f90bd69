"""Tests of one game, and what several of them together allow to say."""

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sndqn.study.bootstrap import Scores, same_games, samples_of

Key = TypeVar("Key")

#: Up to here every relabelling is looked at: ten seeds against ten are 184 756.
_EXACT = 200_000
_DRAWN = 100_000


@dataclass(frozen=True)
class PermutationTest:
    """What a permutation test of two arms' means in one game found.

    Attributes:
        difference: Mean of the first arm less the second's.
        p: Two-sided: the share of relabellings whose difference is at least as large.
        least_p: What p could have been at least with so many seeds.
        exact: Whether every relabelling was looked at; otherwise 100 000 random ones.
        seeds: Of the first arm and of the second.
    """

    difference: float
    p: float
    least_p: float
    exact: bool
    seeds: tuple[int, int]


def permutation_test(
    first: npt.ArrayLike, second: npt.ArrayLike, *, seed: int = 0
) -> PermutationTest:
    """Asks whether the arm's label matters for the mean score in one game.

    If it does not, every division of the scores into groups of these sizes is equally likely
    (Fisher 1935). Drawn relabellings count the one that happened too, so that p is never 0 (Phipson
    and Smyth 2010).

    Args:
        first: Scores of an arm's seeds.
        second: Scores of the other's.
        seed: Of the random relabellings, where they are drawn.

    Raises:
        ScoresError: There are no scores, or one is not finite.
    """
    arms = samples_of({"first arm": first, "second arm": second})
    x, y = arms["first arm"], arms["second arm"]
    n, m = x.size, y.size
    pooled = np.concatenate([x, y])
    pooled -= pooled.mean()
    relabellings = math.comb(n + m, n)
    exact = relabellings <= _EXACT
    if exact:
        sums = pooled[_groups(n, m)].sum(axis=1)
    else:
        rng = np.random.default_rng(seed)
        shuffled = rng.permuted(np.broadcast_to(pooled, (_DRAWN, n + m)), axis=1)
        sums = shuffled[:, :n].sum(axis=1)
    # Centred scores sum to 0, so the difference of means is the first group's sum times a constant;
    # what equals the observed one up to rounding counts as equal.
    observed = abs(pooled[:n].sum())
    rounding = 1e-9 * np.abs(pooled).max()
    at_least = int(np.count_nonzero(np.abs(sums) >= observed - rounding))
    p = at_least / relabellings if exact else (at_least + 1) / (_DRAWN + 1)
    least = (2 if n == m else 1) / relabellings if exact else 1 / (_DRAWN + 1)
    return PermutationTest(float(x.mean() - y.mean()), p, min(least, 1.0), exact, (n, m))


def permutation_tests(first: Scores, second: Scores) -> dict[str, PermutationTest]:
    """Tests each game; give their p to `holm` before any of them is called significant.

    Raises:
        ScoresError: As of `permutation_test`, or the arms' games differ.
    """
    x, y = samples_of(first), samples_of(second)
    same_games(x, y)
    return {game: permutation_test(x[game], y[game]) for game in x}


def holm(p: Mapping[Key, float]) -> dict[Key, float]:
    """Adjusts the p of several tests, so that any of them errs with the stated chance together.

    Holm's step-down (1979): the smallest is multiplied by the number of tests, the next by one
    less, and so on; none falls below one before it.
    """
    adjusted: dict[Key, float] = {}
    largest = 0.0
    for rank, key in enumerate(sorted(p, key=lambda key: p[key])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[key]))
        adjusted[key] = largest
    return {key: adjusted[key] for key in p}


@functools.lru_cache(maxsize=4)
def _groups(n: int, m: int) -> npt.NDArray[np.intp]:
    """All choices of the first group: their indices, one choice a row."""
    chosen = itertools.chain.from_iterable(itertools.combinations(range(n + m), n))
    return np.fromiter(chosen, dtype=np.intp).reshape(-1, n)
