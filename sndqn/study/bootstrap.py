"""Intervals by resampling seeds within games: the stratified bootstrap.

The method of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(NeurIPS 2021): games are fixed, seeds are a sample. Each replicate draws, in every game of every
arm on its own, as many seeds as there are, with replacement; percentiles of the replicates are the
interval's ends. Of n seeds the replicates spread by sqrt((n - 1) / n) too little, and nothing in
them says that their spread is an estimate itself. So the percentiles are taken further out, as
Hesterberg, "What Teachers Should Know About the Bootstrap" (2015), expands them to the width of
Student's interval: by default. With `method="percentile"` they are where rliable takes them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

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
Method: TypeAlias = Literal["expanded", "percentile"]

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
    method: Method = "expanded",
    seed: int = 0,
) -> Estimate:
    """Estimates a statistic of one or several arms, with a bootstrap interval.

    Args:
        statistic: Takes the samples of each arm, gives one number a replicate.
        *arms: The scores of each arm.
        replicates: Of the bootstrap.
        confidence: Of the interval, between 0 and 1.
        method: "expanded" percentiles, wide enough for few seeds, or rliable's "percentile".
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
    low, high = ends_of(found, share_outside(samples, confidence, method))
    return Estimate(value, float(low), float(high))


def band(
    at: npt.ArrayLike,
    statistic: Statistic,
    *arms: Scores,
    replicates: int = 2_000,
    confidence: float = 0.95,
    method: Method = "expanded",
    seed: int = 0,
) -> Band:
    """Estimates a curve: as `estimate`, where the statistic gives a number for each point.

    Args:
        at: The points.
        statistic: Takes the samples of each arm, gives one number a replicate and point.
        *arms: The scores of each arm; those of a game may have axes before the seeds'.
        replicates: Of the bootstrap; a curve needs fewer than a number that is argued about.
        confidence: Of the interval at each point.
        method: As of `estimate`.
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
    found = replicated(statistic, samples, replicates, seed)
    low, high = ends_of(found, share_outside(samples, confidence, method))
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


def share_outside(arms: list[dict[str, Array]], confidence: float, method: Method) -> float:
    """Gives the share of replicates that lie beyond each end of an interval.

    Args:
        arms: The samples; each game of each arm estimates its spread from its own seeds.
        confidence: Of the interval.
        method: As of `estimate`.
    """
    outside = (1 - confidence) / 2
    if method == "percentile":
        return outside
    sizes = [array.shape[-1] for arm in arms for array in arm.values()]
    freedom = sum(sizes) - len(sizes)
    t = _t_quantile(-NormalDist().inv_cdf(outside), freedom)
    return NormalDist().cdf(-t * math.sqrt(sum(sizes) / freedom))


def ends_of(replicates: Array, outside: float) -> tuple[Array, Array]:
    """Gives the interval that leaves a share of the replicates outside at each end."""
    low, high = np.percentile(replicates, [100 * outside, 100 - 100 * outside], axis=0)
    return low, high


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


def _t_quantile(z: float, freedom: int) -> float:
    """Student's quantile where the normal distribution has z (Abramowitz and Stegun 26.7.5).

    At 95 % off by 0.02 % from 8 degrees of freedom on, by 1 % at 3. At 1 and 2 it is too small,
    where it does not matter: so far out there is the outermost replicate either way.
    """
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))
