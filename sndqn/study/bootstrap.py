"""Intervals by resampling seeds within games: the stratified percentile bootstrap.

The method of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(NeurIPS 2021): games are fixed, seeds are a sample. Each replicate draws, in every game of every
arm on its own, as many seeds as there are, with replacement.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sndqn.errors import ScoresError

Array: TypeAlias = npt.NDArray[np.float64]
#: The scores of an arm: for each game one number a seed. Games may have different numbers of seeds.
Scores: TypeAlias = Mapping[str, npt.ArrayLike]
#: The same as arrays whose last axis is the seeds; those before it are replicates, or steps.
Samples: TypeAlias = Mapping[str, Array]
#: What is estimated: from the samples of one or several arms to an array without the seeds' axis.
Statistic: TypeAlias = Callable[..., Array]

#: Resampled scores held at a time, so that memory does not grow with the number of replicates.
_AT_A_TIME = 2**19


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: From the seeds as they are.
        low: Lower end, or None where the data allow no interval.
        high: Upper end, or None.
        note: Why there is no interval; otherwise empty.
    """

    value: float
    low: float | None
    high: float | None
    note: str = ""


@dataclass(frozen=True)
class Band:
    """A curve with the interval at each of its points, each point for itself.

    Attributes:
        at: The points: thresholds, or time steps.
        value: From the seeds as they are, one for each point.
        low: Lower ends, or None where the data allow no interval.
        high: Upper ends, or None.
        note: Why there is no interval; otherwise empty.
    """

    at: Array
    value: Array
    low: Array | None
    high: Array | None
    note: str = ""


def estimate(
    statistic: Statistic,
    *arms: Scores,
    replicates: int = 50_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Estimates a statistic of one or several arms, with a bootstrap interval.

    Args:
        statistic: Takes the samples of each arm, gives one number a replicate.
        *arms: The scores of each arm.
        replicates: Of the bootstrap.
        confidence: Of the interval, between 0 and 1.
        seed: Of the bootstrap's random numbers: the same seed gives the same interval.

    Returns:
        The estimate; without interval if a game of an arm has one seed only, or the statistic of a
        replicate is undefined (nan).

    Raises:
        ScoresError: The scores are empty, not finite, or the arms' games differ.
    """
    samples = [samples_of(arm) for arm in arms]
    same_games(*samples)
    value = float(statistic(*samples))
    note = too_few_seeds(*samples)
    if note:
        return Estimate(value, None, None, note)
    found = replicated(statistic, samples, replicates, seed)
    undefined = np.mean(np.isnan(found))
    if undefined:
        return Estimate(
            value, None, None, f"no interval: undefined in {undefined:.2%} of replicates"
        )
    low, high = _ends(found, confidence)
    return Estimate(value, float(low), float(high))


def band(
    at: npt.ArrayLike,
    statistic: Statistic,
    *arms: Scores,
    replicates: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Band:
    """Estimates a curve: as `estimate`, where the statistic gives a number for each point.

    Args:
        at: The points.
        statistic: Takes the samples of each arm, gives one number a replicate and point.
        *arms: The scores of each arm; those of a game may have axes before the seeds'.
        replicates: Of the bootstrap; a curve needs fewer than a number that is argued about.
        confidence: Of the interval at each point.
        seed: Of the bootstrap's random numbers.

    Raises:
        ScoresError: As of `estimate`.
    """
    points = np.asarray(at, dtype=np.float64)
    samples = [samples_of(arm) for arm in arms]
    same_games(*samples)
    value = statistic(*samples)
    note = too_few_seeds(*samples)
    if note:
        return Band(points, value, None, None, note)
    low, high = _ends(replicated(statistic, samples, replicates, seed), confidence)
    return Band(points, value, low, high)


def replicated(
    statistic: Statistic, arms: list[dict[str, Array]], replicates: int, seed: int
) -> Array:
    """Computes a statistic on resampled seeds: an array whose first axis is the replicates."""
    rng = np.random.default_rng(seed)
    held = sum(array.size for arm in arms for array in arm.values())
    parts = []
    for count in _portions(replicates, max(1, _AT_A_TIME // held)):
        drawn = [{game: _drawn(array, count, rng) for game, array in arm.items()} for arm in arms]
        parts.append(statistic(*drawn))
    return np.concatenate(parts)


def samples_of(scores: Scores) -> dict[str, Array]:
    """Checks the scores of an arm and gives them as arrays.

    Raises:
        ScoresError: There are none, or one is not a finite number.
    """
    if not scores:
        raise ScoresError("scores: expected at least one game, found none")
    samples = {}
    for game, values in scores.items():
        array = np.asarray(values, dtype=np.float64)
        if array.ndim == 0 or array.size == 0:
            raise ScoresError(f"{game}: expected a score for each seed, found {values!r}")
        if not np.isfinite(array).all():
            raise ScoresError(
                f"{game}: a score is not finite; count such a run as what it earned, or leave it "
                "out by a rule made before"
            )
        samples[game] = array
    return samples


def same_games(*arms: Samples) -> None:
    """Refuses arms that cannot be compared.

    Raises:
        ScoresError: A game is in one arm and not in another.
    """
    everywhere = set().union(*arms)
    for number, arm in enumerate(arms, start=1):
        missing = sorted(everywhere - set(arm))
        if missing:
            raise ScoresError(
                f"arm {number} of {len(arms)} has no scores of {', '.join(missing)}: compare arms "
                "on games that all of them have"
            )


def too_few_seeds(*arms: Samples) -> str:
    """Says why there can be no interval, or nothing."""
    single = sorted({game for arm in arms for game, a in arm.items() if a.shape[-1] == 1})
    return f"no interval: one seed of {', '.join(single)}" if single else ""


def _portions(total: int, size: int) -> Iterator[int]:
    while total > 0:
        yield min(size, total)
        total -= size


def _drawn(array: Array, count: int, rng: np.random.Generator) -> Array:
    """Draws seeds with replacement; axes that stand before the seeds' keep their place."""
    seeds = array.shape[-1]
    drawn: Array = array[..., rng.integers(seeds, size=(count, seeds))]
    return np.moveaxis(drawn, -2, 0)


def _ends(replicates: Array, confidence: float) -> tuple[Array, Array]:
    outside = 50 * (1 - confidence)
    low, high = np.percentile(replicates, [outside, 100 - outside], axis=0)
    return low, high
