"""What the runs say of the arms: every arm against the baseline, by game and over all games.

The unit is a run: the mean return of the evaluation at its end. Only finished runs count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sndqn.study.arms import baseline
from sndqn.study.bootstrap import Estimate, estimate
from sndqn.study.overall import permutation_test_over_games
from sndqn.study.report.scale import Scale, scaled
from sndqn.study.results import Results
from sndqn.study.significance import PermutationTest, holm, permutation_test
from sndqn.study.statistics import difference, iqm, mean, probability_of_improvement

LEVEL = 0.05
"""Below this chance of being wrong by luck alone, a difference counts as found."""

Finding = Literal["better", "worse", "undecided", "cannot tell"]
REPLICATES = 10_000
"""Of the bootstrap; a report has many intervals."""


@dataclass(frozen=True)
class GameComparison:
    """An arm against the baseline on one game.

    Attributes:
        env: The game.
        arm: The arm.
        mean: Its mean return.
        base_mean: The baseline's.
        difference: Of the means: the arm's less the baseline's.
        test: Whether the label matters.
        p: Its p, adjusted by Holm for all tests of the report.
        finding: In a word; "cannot tell" where so few seeds could have found nothing.
    """

    env: str
    arm: str
    mean: Estimate
    base_mean: Estimate
    difference: Estimate
    test: PermutationTest
    p: float
    finding: Finding


@dataclass(frozen=True)
class ArmComparison:
    """An arm against the baseline over all games that both have.

    Attributes:
        arm: The arm.
        games: By game.
        difference: Of the interquartile means of scaled scores; on one game of the mean returns.
        iqm_difference: Of the interquartile means, on one game too.
        improvement: How often a run of the arm beats one of the baseline.
        p: Of the test over all games, adjusted by Holm for all arms; on one game the game's own.
        finding: In a word.
    """

    arm: str
    games: tuple[GameComparison, ...]
    difference: Estimate
    iqm_difference: Estimate
    improvement: Estimate
    p: float
    finding: Finding


@dataclass(frozen=True)
class Comparison:
    """All that is compared.

    Attributes:
        baseline: What arms are compared with.
        arms: The others that have finished runs, in the report's order.
        scores: By arm and game: one number a run.
        scaled: The same on one scale for all games.
        scale: What that scale is.
    """

    baseline: str
    arms: tuple[ArmComparison, ...]
    scores: Mapping[str, Mapping[str, Sequence[float]]]
    scaled: Mapping[str, Mapping[str, Sequence[float]]]
    scale: Scale

    @property
    def games(self) -> tuple[GameComparison, ...]:
        """Every arm on every game."""
        return tuple(game for arm in self.arms for game in arm.games)


def scores_of(results: Results) -> dict[str, dict[str, list[float]]]:
    """Returns the finished runs' scores by arm and game."""
    scores: dict[str, dict[str, list[float]]] = {arm: {} for arm in results.arms}
    for run in results.runs:
        if run.score is not None:
            scores[run.arm].setdefault(run.env, []).append(run.score)
    return {arm: games for arm, games in scores.items() if games}


def compare(results: Results, against: str | None = None) -> Comparison:
    """Compares every arm with the baseline.

    Args:
        results: The runs.
        against: The baseline's name; by default the first arm without SN, or else the first.
    """
    scores = scores_of(results)
    settings = {run.arm: run.settings for run in reversed(results.runs)}
    base = against or baseline({arm: settings[arm] for arm in results.arms}) or ""
    on_one_scale, scale = scaled(scores)
    shared = {
        arm: sorted(scores[arm].keys() & scores[base].keys())
        for arm in (scores if base in scores else ())
        if arm != base
    }
    games = _on_games(scores, base, shared)
    overall = {
        arm: permutation_test_over_games(_only(scores[arm], envs), _only(scores[base], envs))
        for arm, envs in shared.items()
        if len(envs) > 1
    }
    adjusted = holm({arm: test.p for arm, test in overall.items()})
    least = holm({arm: test.least_p for arm, test in overall.items()})
    arms = []
    for arm, envs in shared.items():
        if not envs:
            continue
        own, bases = _only(on_one_scale[arm], envs), _only(on_one_scale[base], envs)
        own_games = tuple(games[arm, env] for env in envs)
        gain = of_iqm = difference(own, bases, iqm, replicates=REPLICATES)
        p, finding = own_games[0].p, own_games[0].finding
        if len(envs) == 1:
            gain = own_games[0].difference
        else:
            p = adjusted[arm]
            finding = _finding(p, min(least.values()), overall[arm].difference)
        better = estimate(probability_of_improvement, own, bases, replicates=REPLICATES)
        arms.append(ArmComparison(arm, own_games, gain, of_iqm, better, p, finding))
    return Comparison(base, tuple(arms), scores, on_one_scale, scale)


def _on_games(
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    base: str,
    shared: Mapping[str, Sequence[str]],
) -> dict[tuple[str, str], GameComparison]:
    tests = {
        (arm, env): permutation_test(scores[arm][env], scores[base][env])
        for arm, envs in shared.items()
        for env in envs
    }
    adjusted = holm({key: test.p for key, test in tests.items()})
    # The smallest p that Holm could leave with so many seeds and tests.
    least = min(holm({key: test.least_p for key, test in tests.items()}).values(), default=1.0)
    found = {}
    for (arm, env), test in tests.items():
        own, other = {env: scores[arm][env]}, {env: scores[base][env]}
        p = adjusted[arm, env]
        found[arm, env] = GameComparison(
            env=env,
            arm=arm,
            mean=estimate(mean, own, replicates=REPLICATES),
            base_mean=estimate(mean, other, replicates=REPLICATES),
            difference=difference(own, other, mean, replicates=REPLICATES),
            test=test,
            p=p,
            finding=_finding(p, least, test.difference),
        )
    return found


def _finding(p: float, least: float, gain: float) -> Finding:
    if p < LEVEL:
        return "better" if gain > 0 else "worse"
    return "cannot tell" if least >= LEVEL else "undecided"


def _only(scores: Mapping[str, Sequence[float]], envs: Sequence[str]) -> dict[str, Sequence[float]]:
    return {env: scores[env] for env in envs}
