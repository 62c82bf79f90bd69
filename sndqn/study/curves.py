"""What several seeds' learning curves say together."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sndqn.errors import ScoresError
from sndqn.study.bootstrap import Array, Band, Estimate, Scores, band, same_games, samples_of
from sndqn.study.special import beta_quantile
from sndqn.study.statistics import Aggregate, iqm

#: Time steps in rising order, and the value at each.
Curve: TypeAlias = tuple[npt.ArrayLike, npt.ArrayLike]


def sample_efficiency(
    curves: Mapping[str, Sequence[Curve]],
    aggregate: Aggregate = iqm,
    at: npt.ArrayLike | None = None,
    **how: Any,
) -> Band:
    """Estimates an aggregate over games and seeds at each time step, with intervals.

    A replicate of the bootstrap draws whole curves, so that a seed stays itself along them.

    Args:
        curves: For each game one curve a seed, of normalised scores if there are several games.
        aggregate: One of `AGGREGATES`.
        at: Time steps; by default as of `aligned`.
        **how: Of the bootstrap, as in `band`.

    Raises:
        ScoresError: As of `aligned`.
    """
    steps, samples = aligned(curves, at)
    return band(steps, aggregate, samples, **how)


def aligned(
    curves: Mapping[str, Sequence[Curve]], at: npt.ArrayLike | None = None, most: int = 200
) -> tuple[Array, dict[str, Array]]:
    """Gives curves with time steps of their own at common ones, straight between their points.

    No curve is continued: the steps are among those that every curve spans, so that the seeds are
    the same at each of them.

    Args:
        curves: For each game one curve a seed.
        at: Time steps; by default those of the curve with the fewest points there.
        most: Number of steps that are taken by default: of more, evenly some.

    Returns:
        The steps, and for each game an array (steps, seeds).

    Raises:
        ScoresError: There is no curve, one has no points or falling steps, or a step that is asked
            for is not spanned by all.
    """
    checked = {
        game: [_checked(game, curve) for curve in of_game] for game, of_game in curves.items()
    }
    every = [curve for of_game in checked.values() for curve in of_game]
    if not every or not all(checked.values()):
        raise ScoresError("curves: expected at least one for each game, found none")
    first = max(steps[0] for steps, _ in every)
    last = min(steps[-1] for steps, _ in every)
    if first > last:
        raise ScoresError(
            f"curves: no time step is common to all; one begins at {first:.0f}, another ends at "
            f"{last:.0f}"
        )
    grid = _common(every, first, last, most) if at is None else np.asarray(at, dtype=np.float64)
    if grid.size == 0 or grid.min() < first or grid.max() > last:
        raise ScoresError(f"curves: expected steps from {first:.0f} to {last:.0f}, which all span")
    return grid, {
        game: np.stack([np.interp(grid, *curve) for curve in of_game], axis=-1)
        for game, of_game in checked.items()
    }


def collapsed(final: Scores, peak: Scores, confidence: float = 0.95) -> Estimate:
    """Estimates the share of runs that end below half their own peak.

    Args:
        final: For each game the score of each seed at the end, above the random agent's:
            normalised, or without the random score.
        peak: The highest of the same curve, in the same order.
        confidence: Of the interval.

    Returns:
        The share of all runs, with the interval of Clopper and Pearson (1934), which also holds
        where no run or every run collapsed.

    Raises:
        ScoresError: The two are not of the same runs.
        MissingExtraError: scipy is not installed.
    """
    ends, peaks = samples_of(final), samples_of(peak)
    same_games(ends, peaks)
    if any(ends[game].shape != peaks[game].shape for game in ends):
        raise ScoresError("collapsed: expected a final score and a peak of every run")
    broken = sum(int(np.sum(ends[game] < peaks[game] / 2)) for game in ends)
    runs = sum(array.size for array in ends.values())
    low, high = clopper_pearson(broken, runs, (1 - confidence) / 2)
    return Estimate(broken / runs, low, high)


def _checked(game: str, curve: Curve) -> tuple[Array, Array]:
    steps, values = (np.asarray(part, dtype=np.float64) for part in curve)
    if steps.ndim != 1 or steps.size == 0 or steps.shape != values.shape:
        raise ScoresError(f"{game}: expected a curve's steps and as many values")
    if not (np.isfinite(steps).all() and np.isfinite(values).all()):
        raise ScoresError(f"{game}: a curve has a value that is not finite")
    if np.any(np.diff(steps) <= 0):
        raise ScoresError(f"{game}: expected a curve's steps in rising order")
    return steps, values


def _common(curves: list[tuple[Array, Array]], first: float, last: float, most: int) -> Array:
    """The steps, in what all curves span, of the curve that has fewest there."""
    inside = [steps[(first <= steps) & (steps <= last)] for steps, _ in curves]
    fewest = min((steps for steps in inside if steps.size), key=len)
    chosen = np.unique(np.linspace(0, fewest.size - 1, min(most, fewest.size)).round())
    result: Array = fewest[chosen.astype(np.intp)]
    return result


def clopper_pearson(hits: int, trials: int, outside: float) -> tuple[float, float]:
    """Computes the interval of a share, with a chance `outside` at either end (1934)."""
    low = 0.0 if hits == 0 else beta_quantile(outside, hits, trials - hits + 1)
    high = 1.0 if hits == trials else beta_quantile(1 - outside, hits + 1, trials - hits)
    return low, high
