"""The tables of what was found: arm by arm, SN where all else is equal, and game by game."""

from collections.abc import Callable
from typing import Any

from sndqn.study.bootstrap import Estimate, estimate
from sndqn.study.report.charts import number
from sndqn.study.report.compare import REPLICATES, ArmComparison, Comparison
from sndqn.study.report.words import BOOTSTRAP, few_seeds, p_words, seeds_words
from sndqn.study.results import Results
from sndqn.study.statistics import iqm, mean


def arm_rows(results: Results, comparison: Comparison) -> list[dict[str, Any]]:
    """Returns a row for each arm over the games that it shares with the baseline."""
    compared = {each.arm: each for each in comparison.arms}
    if not compared:
        return []
    return [
        _arm_row(results, comparison, arm, compared.get(arm))
        for arm in results.arms
        if arm in compared or arm == comparison.baseline
    ]


def _arm_row(
    results: Results, comparison: Comparison, arm: str, against: ArmComparison | None
) -> dict[str, Any]:
    scores = comparison.scaled[arm]
    if against is not None:
        scores = {game.env: scores[game.env] for game in against.games}
    row = {
        "arm": arm,
        "place": results.arms.index(arm),
        "iqm": _interval(estimate(iqm, scores, replicates=REPLICATES), number),
        "mean": _interval(estimate(mean, scores, replicates=REPLICATES), number),
        "n": sum(map(len, scores.values())),
        "difference": "–",
        "improvement": "–",
        "p": "–",
        "finding": "",
    }
    if against is not None:
        row["difference"] = _interval(against.iqm_difference, number)
        row["improvement"] = _interval(against.improvement, "{:.0%}".format)
        row["p"], row["finding"] = p_words(against.p), against.finding
    return row


def arms_caption(comparison: Comparison) -> str:
    """Says what the numbers of `arm_rows` are."""
    counts = [n for game in comparison.games for n in game.test.seeds]
    tests = len(comparison.arms)
    return (
        f"{comparison.scale.sentence} IQM: mean of the middle half of all runs. Beats it: how "
        f"often a run of the arm scores higher than one of {comparison.baseline} in the same game. "
        f"Intervals: {BOOTSTRAP}. p: permutation of the runs' labels within games, two-sided, "
        f"adjusted by Holm for {tests} {'test' if tests == 1 else 'tests'}; below 0.05 counts as "
        f"found. n: runs of all games, {seeds_words(counts)} of each.{few_seeds(counts)}"
    )


def gain_rows(results: Results, comparison: Comparison) -> list[dict[str, Any]]:
    """Returns a row for each arm with SN and the arm without that is otherwise the same."""
    return [
        {
            "arm": gain.of.arm,
            "place": results.arms.index(gain.of.arm),
            "base": gain.of.base,
            "games": len(gain.of.games),
            "gain": _interval(gain.of.difference, number),
            "p": p_words(gain.of.p),
            "finding": gain.of.finding,
            "more": "–" if gain.more is None else _interval(gain.more, number),
            "first": "–" if gain.first is None else gain.first.arm,
        }
        for gain in comparison.gains
    ]


def gains_caption(comparison: Comparison) -> str:
    """Says what the numbers of `gain_rows` are."""
    counts = [n for gain in comparison.gains for game in gain.of.games for n in game.test.seeds]
    games = max((len(gain.of.games) for gain in comparison.gains), default=0)
    unit = (
        "mean return"
        if games < 2
        else f"IQM of the {comparison.scale.name}, on one game of mean return"
    )
    tests = len(comparison.gains)
    return (
        f"Each arm with SN less the arm without SN whose other settings are the same, in {unit}. "
        f"More: how much more SN gains there than in the arm that is named, the interaction of SN "
        f"with what differs between the two. Intervals: {BOOTSTRAP}. p: permutation of the runs' "
        f"labels within games, two-sided, adjusted by Holm for {tests} "
        f"{'test' if tests == 1 else 'tests'}.{few_seeds(counts)}"
    )


def game_rows(results: Results, comparison: Comparison) -> list[dict[str, Any]]:
    """Returns a row for each arm and game, the games one after another."""
    return [
        {
            "env": game.env,
            "arm": game.arm,
            "place": results.arms.index(game.arm),
            "mean": number(game.mean.value),
            "base": number(game.base_mean.value),
            "difference": _interval(game.difference, number),
            "p": p_words(game.p),
            "n": f"{game.test.seeds[0]} and {game.test.seeds[1]}",
            "finding": game.finding,
        }
        for game in sorted(comparison.games, key=lambda game: game.env)
    ]


def games_caption(comparison: Comparison) -> str:
    """Says what the numbers of `game_rows` are."""
    tests = len(comparison.games)
    return (
        f"Difference: arm less {comparison.baseline}, of mean returns of the final evaluation; "
        f"interval: {BOOTSTRAP}. p: permutation of the runs' labels, two-sided, adjusted by Holm "
        f"for {tests} {'test' if tests == 1 else 'tests'}; below 0.05 counts as found. n: runs of "
        "the arm and of the other. “Cannot tell”: with so few runs no result could have counted."
    )


def _interval(estimate: Estimate, words: Callable[[float], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return words(estimate.value)
    return f"{words(estimate.value)} [{words(estimate.low)}, {words(estimate.high)}]"
