"""Whether two arms are as good as equal: which a test that finds no difference does not show."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sndqn.errors import ScoresError
from sndqn.study.bootstrap import Array, Estimate, Scores, samples_of
from sndqn.study.special import t_survival
from sndqn.study.statistics import Aggregate, iqm, ratio

Verdict = Literal["equivalent", "above", "below", "open"]


@dataclass(frozen=True)
class Equivalence:
    """What two one-sided tests found.

    Attributes:
        p: The larger of the two tests': at most the level, the arms are equivalent. None with one
            seed of an arm.
        p_not_below: That the first arm's mean is not below (1 - margin) of the second's.
        p_not_above: That it is not above (1 + margin) of it.
        ratio: Of the means.
        note: Why there is no p; otherwise empty.
    """

    p: float | None
    p_not_below: float | None
    p_not_above: float | None
    ratio: float
    note: str = ""


def equivalence_test(
    first: npt.ArrayLike, second: npt.ArrayLike, margin: float = 0.1
) -> Equivalence:
    """Tests by two one-sided tests whether two means of one game differ by less than a margin.

    Welch's t of the first arm against (1 - margin) and against (1 + margin) times the second, so
    that the error of the second's mean counts in the margin too (Schuirmann 1987).

    Args:
        first: Scores of an arm's seeds.
        second: Scores of the arm it is compared with; their mean has to be above 0.
        margin: Share of the second's mean.

    Raises:
        ScoresError: There are no scores, one is not finite, or the second's mean is not above 0.
        MissingExtraError: scipy is not installed.
    """
    arms = samples_of({"first arm": first, "second arm": second})
    x, y = arms["first arm"], arms["second arm"]
    if y.mean() <= 0:
        raise ScoresError("a margin in percent needs a mean above 0: normalise the scores")
    quotient = float(x.mean() / y.mean())
    if min(x.size, y.size) == 1:
        return Equivalence(None, None, None, quotient, "no test: one seed")
    not_below = _p_greater(x, (1 - margin) * y)
    not_above = _p_greater((1 + margin) * y, x)
    return Equivalence(max(not_below, not_above), not_below, not_above, quotient)


def equivalence_over_games(
    first: Scores,
    second: Scores,
    margin: float = 0.1,
    level: float = 0.05,
    aggregate: Aggregate = iqm,
    **how: Any,
) -> tuple[Verdict, Estimate]:
    """Judges by the bootstrap whether two arms differ by less than a margin over several games.

    The interval of confidence 1 - 2 level of the ratio decides, which is two one-sided tests at the
    level: inside 1 +- margin the arms are `equivalent`, wholly outside the first is `above` or
    `below`; else it is `open`.

    Args:
        first: An arm's scores.
        second: The scores it is compared with; their aggregate has to be above 0.
        margin: Share of the second's aggregate.
        level: Of each test.
        aggregate: One of `AGGREGATES`.
        **how: Of the bootstrap, as in `estimate`.

    Returns:
        The verdict, and the ratio with the interval that decided.

    Raises:
        ScoresError: As of `ratio`.
    """
    found = ratio(first, second, aggregate, **{**how, "confidence": 1 - 2 * level})
    low, high = found.low, found.high
    if low is None or high is None:
        return "open", found
    if 1 - margin < low and high < 1 + margin:
        return "equivalent", found
    if low > 1 + margin:
        return "above", found
    return ("below" if high < 1 - margin else "open"), found


def _p_greater(x: Array, y: Array) -> float:
    """The p of Welch's test that the mean of x is greater."""
    gap = x.mean() - y.mean()
    own, other = x.var(ddof=1) / x.size, y.var(ddof=1) / y.size
    if own + other == 0:
        return 0.0 if gap > 0 else 1.0
    freedom = (own + other) ** 2 / (own**2 / (x.size - 1) + other**2 / (y.size - 1))
    return t_survival(gap / np.sqrt(own + other), freedom)
