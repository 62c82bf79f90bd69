"""How tolerant an arm is of its settings: the share of them that do nearly as well as the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sndqn.errors import ScoresError
from sndqn.study.bootstrap import Estimate
from sndqn.study.curves import clopper_pearson


@dataclass(frozen=True)
class Tolerance:
    """What shares of an arm's settings are nearly as good as the best.

    Attributes:
        own: Within the margin of the arm's own best.
        common: Within the margin of the best of all arms.
    """

    own: Estimate
    common: Estimate


def tolerances(
    scores: Mapping[str, Sequence[float]],
    best: Mapping[str, float],
    margin: float = 0.1,
    lowest: float = 0.0,
) -> dict[str, Tolerance]:
    """Estimates for each arm the share of its settings within a margin of the best.

    The settings must have been drawn at random, each by itself: those that a search chose lie where
    it found good ones. The best is of noisy scores, so somewhat too high, and the shares too low.

    Args:
        scores: By arm, the score of each setting that was drawn at random.
        best: By arm, the best score of all settings that were tried.
        margin: 0.1 for 90 % of the best.
        lowest: What scores are counted from: a random agent's, or 0. A score counts if it is above
            `lowest` by at least 1 - margin of what the best is above it.

    Returns:
        The shares, with the 95 % interval of Clopper and Pearson (1934).

    Raises:
        ScoresError: An arm has no scores, or the best is not above `lowest`.
        MissingExtraError: scipy is not installed.
    """
    for arm, found in scores.items():
        if not found:
            raise ScoresError(f"{arm}: expected scores of settings drawn at random, found none")
        if best[arm] <= lowest:
            raise ScoresError(
                f"{arm}: expected a best score above {lowest:g}, found {best[arm]:g}: train longer"
            )
    highest = max(best.values())
    return {
        arm: Tolerance(
            _share(found, lowest + (1 - margin) * (best[arm] - lowest)),
            _share(found, lowest + (1 - margin) * (highest - lowest)),
        )
        for arm, found in scores.items()
    }


def _share(scores: Sequence[float], least: float) -> Estimate:
    hits = sum(score >= least for score in scores)
    low, high = clopper_pearson(hits, len(scores), 0.025)
    return Estimate(hits / len(scores), low, high)
