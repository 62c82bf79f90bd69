"""What the runs say of the arms: each against the baseline, by game and over all games.

Where other settings than SN's vary as well, each arm with SN is also compared with the arm without
SN that is otherwise the same: against one baseline, what SN does would be mixed with what they do.

The unit is a run: the mean return of the evaluation at its end. Only finished runs count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sndqn.study.arms import baseline, counterparts
from sndqn.study.bootstrap import Estimate, estimate
from sndqn.study.overall import permutation_test_over_games
from sndqn.study.report.scale import Scale, scaled
from sndqn.study.results import Results
from sndqn.study.significance import PermutationTest, holm, permutation_test
from sndqn.study.statistics import (
    difference,
    interaction,
    iqm,
    mean,
    probability_of_improvement,
)

LEVEL = 0.05
"""Below this chance of being wrong by luck alone, a difference counts as found."""

Finding = Literal["better", "worse", "undecided", "cannot tell"]
Games: TypeAlias = Mapping[str, Sequence[float]]  # scores of an arm by game
REPLICATES = 10_000
"""Of the bootstrap; a report has many intervals."""


@dataclass(frozen=True)
class GameComparison:
    """An arm against another on one game.

    Attributes:
        env: The game.
        arm: The arm.
        mean: Its mean return.
        base_mean: The other's.
        difference: Of the means: the arm's less the other's.
        test: Whether the label matters.
        p: Its p, adjusted by Holm for all arms and games of the table.
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
    """An arm against another over all games that both have.

    Attributes:
        arm: The arm.
        base: The other one.
        games: By game.
        difference: Of the interquartile means of scaled scores; on one game of the mean returns.
        iqm_difference: Of the interquartile means, on one game too.
        improvement: How often a run of the arm beats one of the other.
        p: Of the test over all games, adjusted by Holm for all arms; on one game the game's own.
        finding: In a word.
    """

    arm: str
    base: str
    games: tuple[GameComparison, ...]
    difference: Estimate
    iqm_difference: Estimate
    improvement: Estimate
    p: float
    finding: Finding


@dataclass(frozen=True)
class Gain:
    """What SN adds, all else equal.

    Attributes:
        of: An arm with SN against its counterpart without.
        first: The gain of the same SN that comes first in the report; None if that is this one, or
            if there is no game of both.
        more: How much more SN gains here than there: the interaction of SN with what differs.
    """

    of: ArmComparison
    first: ArmComparison | None = None
    more: Estimate | None = None


@dataclass(frozen=True)
class Comparison:
    """All that is compared.

    Attributes:
        baseline: What arms are compared with.
        arms: The others that have finished runs, in the report's order.
        gains: What SN adds where the rest is equal; empty where that is what `arms` says already.
        scores: By arm and game: one number a run.
        scaled: The same on one scale for all games.
        scale: What that scale is.
    """

    baseline: str
    arms: tuple[ArmComparison, ...]
    gains: tuple[Gain, ...]
    scores: Mapping[str, Games]
    scaled: Mapping[str, Games]
    scale: Scale

    @property
    def games(self) -> tuple[GameComparison, ...]:
        """Every arm on every game, against the baseline."""
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
    others = {arm: base for arm in scores if base in scores and arm != base}
    pairs = counterparts({arm: settings[arm] for arm in scores}, results.differing)
    if set(pairs.values()) <= {base}:
        pairs = {}
    return Comparison(
        baseline=base,
        arms=_against(scores, on_one_scale, others),
        gains=_gains(scores, on_one_scale, _against(scores, on_one_scale, pairs), settings),
        scores=scores,
        scaled=on_one_scale,
        scale=scale,
    )


def _against(
    scores: Mapping[str, Games], on_one_scale: Mapping[str, Games], bases: Mapping[str, str]
) -> tuple[ArmComparison, ...]:
    """Compares arms each with another.

    Args:
        scores: By arm and game.
        on_one_scale: The same, scaled.
        bases: What each arm is compared with.
    """
    shared = {arm: sorted(scores[arm].keys() & scores[base].keys()) for arm, base in bases.items()}
    games = _on_games(scores, bases, shared)
    overall = {
        arm: permutation_test_over_games(_only(scores[arm], envs), _only(scores[bases[arm]], envs))
        for arm, envs in shared.items()
        if len(envs) > 1
    }
    adjusted = holm({arm: test.p for arm, test in overall.items()})
    least = holm({arm: test.least_p for arm, test in overall.items()})
    arms = []
    for arm, envs in shared.items():
        if not envs:
            continue
        base = bases[arm]
        own, other = _only(on_one_scale[arm], envs), _only(on_one_scale[base], envs)
        own_games = tuple(games[arm, env] for env in envs)
        gain = of_iqm = difference(own, other, iqm, replicates=REPLICATES)
        p, finding = own_games[0].p, own_games[0].finding
        if len(envs) == 1:
            gain = own_games[0].difference
        else:
            p = adjusted[arm]
            finding = _finding(p, min(least.values()), overall[arm].difference)
        better = estimate(probability_of_improvement, own, other, replicates=REPLICATES)
        arms.append(ArmComparison(arm, base, own_games, gain, of_iqm, better, p, finding))
    return tuple(arms)


def _on_games(
    scores: Mapping[str, Games], bases: Mapping[str, str], shared: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], GameComparison]:
    tests = {
        (arm, env): permutation_test(scores[arm][env], scores[bases[arm]][env])
        for arm, envs in shared.items()
        for env in envs
    }
    adjusted = holm({key: test.p for key, test in tests.items()})
    # The smallest p that Holm could leave with so many seeds and tests.
    least = min(holm({key: test.least_p for key, test in tests.items()}).values(), default=1.0)
    found = {}
    for (arm, env), test in tests.items():
        own, other = {env: scores[arm][env]}, {env: scores[bases[arm]][env]}
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


def _gains(
    scores: Mapping[str, Games],
    on_one_scale: Mapping[str, Games],
    pairs: Sequence[ArmComparison],
    settings: Mapping[str, Mapping[str, Any]],
) -> tuple[Gain, ...]:
    """Sets what SN adds beside what the same SN adds under other settings."""
    firsts: dict[str, ArmComparison] = {}
    gains = []
    for pair in pairs:
        sn = {key: value for key, value in settings[pair.arm].items() if key.startswith("sn_")}
        first = firsts.setdefault(repr(sn), pair)
        envs = [game.env for game in pair.games if game.env in {g.env for g in first.games}]
        if first is pair or not envs:
            gains.append(Gain(pair))
            continue
        measured, aggregate = (on_one_scale, iqm) if len(envs) > 1 else (scores, mean)
        more = interaction(
            _only(measured[pair.arm], envs),
            _only(measured[pair.base], envs),
            _only(measured[first.arm], envs),
            _only(measured[first.base], envs),
            aggregate,
            replicates=REPLICATES,
        )
        gains.append(Gain(pair, first, more))
    return tuple(gains)


def _finding(p: float, least: float, gain: float) -> Finding:
    if p < LEVEL:
        return "better" if gain > 0 else "worse"
    return "cannot tell" if least >= LEVEL else "undecided"


def _only(scores: Games, envs: Sequence[str]) -> dict[str, Sequence[float]]:
    return {env: scores[env] for env in envs}
