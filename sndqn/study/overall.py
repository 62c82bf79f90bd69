"""A test of two arms over several games at once."""

import math

import numpy as np

from sndqn.study.bootstrap import Scores, same_games, samples_of
from sndqn.study.significance import PermutationTest

_DRAWN = 20_000


def permutation_test_over_games(first: Scores, second: Scores, *, seed: int = 0) -> PermutationTest:
    """Asks whether the arm's label matters, over all games together.

    Labels are exchanged within games. What is looked at is the mean over games of the difference of
    mean scores, each game's in standard deviations of all its scores, so that games may differ in
    what a score means and in their numbers of seeds. Drawn relabellings count the one that happened
    too, so that p is never 0 (Phipson and Smyth 2010).

    Args:
        first: Scores of an arm, by game.
        second: Of the other, of the same games.
        seed: Of the relabellings that are drawn.

    Returns:
        The test; its difference is in standard deviations.

    Raises:
        ScoresError: As of `permutation_test`, or the arms' games differ.
    """
    x, y = samples_of(first), samples_of(second)
    same_games(x, y)
    rng = np.random.default_rng(seed)
    observed, drawn, relabellings = 0.0, np.zeros(_DRAWN), 1
    for game, own in x.items():
        pooled = np.concatenate([own, y[game]])
        pooled = (pooled - pooled.mean()) / (pooled.std() or 1.0)
        shuffled = rng.permuted(np.broadcast_to(pooled, (_DRAWN, pooled.size)), axis=1)
        drawn += shuffled[:, : own.size].mean(axis=1) - shuffled[:, own.size :].mean(axis=1)
        observed += float(pooled[: own.size].mean() - pooled[own.size :].mean())
        relabellings *= math.comb(pooled.size, own.size)
    as_large = np.abs(drawn) >= abs(observed) - 1e-9  # equal but for rounding is equal
    p = (int(as_large.sum()) + 1) / (_DRAWN + 1)
    mirrored = all(own.size == y[game].size for game, own in x.items())
    least = max((2 if mirrored else 1) / relabellings, 1 / (_DRAWN + 1))
    seeds = sum(own.size for own in x.values()), sum(other.size for other in y.values())
    return PermutationTest(observed / len(x), p, min(least, 1.0), False, seeds)
