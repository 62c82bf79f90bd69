"""What is said of an arm, and of two: aggregates over games and seeds, and their intervals.

An aggregate takes samples, arrays whose last axis is the seeds, so that it computes thousands of
bootstrap replicates at once. Every game counts the same, however many seeds it has. Definitions and
names are those of Agarwal et al. (NeurIPS 2021); with equally many seeds in every game the numbers
are rliable's.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sndqn.errors import ScoresError
from sndqn.study.bootstrap import Array, Band, Estimate, Samples, Scores, band, estimate

Aggregate: TypeAlias = Callable[[Samples], Array]


def mean(samples: Samples) -> Array:
    """The mean over games of each game's mean over seeds."""
    result: Array = np.mean(_game_means(samples), axis=0)
    return result


def median(samples: Samples) -> Array:
    """The median over games of each game's mean over seeds."""
    result: Array = np.median(_game_means(samples), axis=0)
    return result


def optimality_gap(samples: Samples) -> Array:
    """How far below 1 the runs are on average, a run above 1 counting as 1; lower is better.

    For normalised scores, of which 1 is the reference's.
    """
    return 1 - mean({game: np.minimum(array, 1) for game, array in samples.items()})


def iqm(samples: Samples) -> Array:
    """The interquartile mean: of all runs together, without the lowest and the highest quarter.

    A run weighs 1 / (games x seeds of its game). Of N runs the weight of floor(N / 4) is cut off at
    either end, if need be a part of a run's: with equally many seeds in every game these are whole
    runs, as `scipy.stats.trim_mean` leaves out.
    """
    pooled = np.concatenate(list(samples.values()), axis=-1)
    counts = [array.shape[-1] for array in samples.values()]
    share = np.concatenate([np.full(n, 1 / (n * len(counts))) for n in counts])
    cut = (share.size // 4) / share.size
    order = np.argsort(pooled, axis=-1)
    ordered, weight = np.take_along_axis(pooled, order, axis=-1), share[order]
    up_to = np.cumsum(weight, axis=-1)
    kept = np.minimum(up_to, 1 - cut) - np.maximum(up_to - weight, cut)
    weight = np.maximum(kept, 0)
    result: Array = np.sum(ordered * weight, axis=-1) / np.sum(weight, axis=-1)
    return result


AGGREGATES: dict[str, Aggregate] = {
    "iqm": iqm,
    "mean": mean,
    "median": median,
    "optimality_gap": optimality_gap,
}


def probability_of_improvement(better: Samples, worse: Samples) -> Array:
    """How often a run of the first arm beats one of the second in the same game; ties count half.

    The mean over games of Mann and Whitney's U / (n m).
    """
    shares = []
    for game, array in better.items():
        ours, theirs = array[..., :, None], worse[game][..., None, :]
        above, not_below = ours > theirs, ours >= theirs
        shares.append((np.mean(above, axis=(-2, -1)) + np.mean(not_below, axis=(-2, -1))) / 2)
    result: Array = np.mean(shares, axis=0)
    return result


def difference(first: Scores, second: Scores, aggregate: Aggregate = iqm, **how: Any) -> Estimate:
    """Estimates by how much an aggregate of the first arm is above the second's.

    Args:
        first: An arm's scores.
        second: The scores it is compared with.
        aggregate: One of `AGGREGATES`.
        **how: Of the bootstrap, as in `estimate`.
    """
    return estimate(lambda a, b: aggregate(a) - aggregate(b), first, second, **how)


def ratio(first: Scores, second: Scores, aggregate: Aggregate = iqm, **how: Any) -> Estimate:
    """Estimates how many times the second arm's aggregate the first one's is.

    Args:
        first: An arm's scores.
        second: The scores it is compared with; a ratio needs an aggregate above 0.
        aggregate: One of `AGGREGATES`.
        **how: Of the bootstrap, as in `estimate`.

    Returns:
        The estimate; without interval if a replicate of the second's aggregate is not above 0.

    Raises:
        ScoresError: The second's aggregate itself is not.
    """

    def quotient(a: Samples, b: Samples) -> Array:
        below = aggregate(b)
        defined = below > 0
        return np.where(defined, aggregate(a) / np.where(defined, below, 1), np.nan)

    found = estimate(quotient, first, second, **how)
    if np.isnan(found.value):
        raise ScoresError(
            "a ratio needs an aggregate above 0 to compare with: normalise the scores, or take the "
            "difference"
        )
    return found


def interaction(
    with_there: Scores,
    without_there: Scores,
    with_here: Scores,
    without_here: Scores,
    aggregate: Aggregate = mean,
    **how: Any,
) -> Estimate:
    """Estimates how much more a change gains in one setting than in another.

    (with - without) there, less (with - without) here: above 0 if it gains more there.

    Args:
        with_there: Scores of the changed arm in the first setting.
        without_there: Of the unchanged one in the first setting.
        with_here: Of the changed one in the second.
        without_here: Of the unchanged one in the second.
        aggregate: One of `AGGREGATES`. The mean is linear, so that its interaction is the mean of
            the games' own.
        **how: Of the bootstrap, as in `estimate`.
    """
    return estimate(
        lambda a, b, c, d: (aggregate(a) - aggregate(b)) - (aggregate(c) - aggregate(d)),
        with_there,
        without_there,
        with_here,
        without_here,
        **how,
    )


def profile(scores: Scores, thresholds: npt.ArrayLike, **how: Any) -> Band:
    """Estimates the performance profile: the share of runs above each threshold.

    The run-score distribution of Agarwal et al.; each game counts the same.

    Args:
        scores: An arm's scores, normalised, so that a threshold means the same in every game.
        thresholds: Of the score.
        **how: Of the bootstrap, as in `band`.
    """
    at = np.asarray(thresholds, dtype=np.float64)

    def shares(samples: Samples) -> Array:
        above = [np.mean(a[..., None, :] > at[:, None], axis=-1) for a in samples.values()]
        result: Array = np.mean(above, axis=0)
        return result

    return band(at, shares, scores, **how)


def _game_means(samples: Samples) -> Array:
    return np.stack([np.mean(array, axis=-1) for array in samples.values()])
