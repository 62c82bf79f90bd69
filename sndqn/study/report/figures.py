"""Which figures a report has, and what they say: from results and comparison to data of figures."""

from collections.abc import Mapping, Sequence

import numpy as np

from sndqn.study.bootstrap import estimate
from sndqn.study.report.charts import (
    Chart,
    Interval,
    IntervalChart,
    IntervalPanel,
    Line,
    LineChart,
    LinePanel,
)
from sndqn.study.report.compare import Comparison
from sndqn.study.report.curves import learning_curves
from sndqn.study.report.heat import heat_maps
from sndqn.study.report.words import BOOTSTRAP, few_seeds, p_words, seeds_words
from sndqn.study.results import Results
from sndqn.study.run_files import Numbers
from sndqn.study.statistics import AGGREGATES, profile

_REPLICATES = 10_000


def figures(results: Results, comparison: Comparison) -> list[Chart]:
    """Returns all figures that there is data for, the most telling first."""
    charts: list[Chart] = [*_compared(results, comparison), *learning_curves(results)]
    charts += _aggregates(results, comparison)
    charts += heat_maps(results)
    return charts


def _compared(results: Results, comparison: Comparison) -> list[Chart]:
    """Differences by game."""
    panels = []
    for env in results.envs:
        rows = []
        for game in (game for game in comparison.games if game.env == env):
            n = f"{game.test.seeds[0]} and {game.test.seeds[1]}"
            gap, note = game.difference, f"p = {p_words(game.p)}, {game.finding}"
            place = results.arms.index(game.arm)
            rows.append(Interval(game.arm, place, gap.value, gap.low, gap.high, n, note))
        if rows:
            panels.append(IntervalPanel(env, tuple(rows)))
    if not panels:
        return []
    counts = [n for game in comparison.games for n in game.test.seeds]
    tests = f"{len(comparison.games)} {'test' if len(comparison.games) == 1 else 'tests'}"
    caption = (
        f"Mean return of the final evaluation, less that of {comparison.baseline}; right of the "
        f"line is better. Bars: {BOOTSTRAP}; {seeds_words(counts)} runs an arm and game. Test: "
        f"permutation of the runs' labels, two-sided, p adjusted by Holm for {tests}."
        f"{few_seeds(counts)}"
    )
    title = "How much better, by game"
    label = "difference of mean return"
    return [IntervalChart("differences", title, caption, label, tuple(panels), 0.0)]


def _aggregates(results: Results, comparison: Comparison) -> list[Chart]:
    """Aggregates of arms over games, probability of improvement, performance profiles."""
    arms = [arm for arm in results.arms if comparison.scaled.get(arm)]
    if not arms:
        return []
    envs = set.intersection(*({*comparison.scaled[arm]} for arm in arms))
    scores = {arm: {env: comparison.scaled[arm][env] for env in sorted(envs)} for arm in arms}
    if not envs:
        return []
    place = {arm: results.arms.index(arm) for arm in arms}
    counts = [len(values) for arm in arms for values in scores[arm].values()]
    total = {arm: str(sum(map(len, scores[arm].values()))) for arm in arms}
    about = (
        f"{seeds_words(counts)} runs an arm and game, {len(envs)} "
        f"{'game' if len(envs) == 1 else 'games'}"
    )
    charts: list[Chart] = []
    panels = []
    for name, words in (
        ("iqm", "IQM: mean of the middle half"),
        ("mean", "Mean"),
        ("median", "Median"),
    ):
        rows = []
        for arm in arms:
            found = estimate(AGGREGATES[name], scores[arm], replicates=_REPLICATES)
            rows.append(Interval(arm, place[arm], found.value, found.low, found.high, total[arm]))
        panels.append(IntervalPanel(words, tuple(rows)))
    caption = f"Scaled score: {comparison.scale}. Bars: {BOOTSTRAP}; {about}.{few_seeds(counts)}"
    charts.append(
        IntervalChart(
            "aggregates", "All games together", caption, "scaled score", tuple(panels), None, (0, 1)
        )
    )
    if comparison.arms:
        rows = []
        for each in comparison.arms:
            gain = each.improvement
            n = f"{total[each.arm]} and {total[comparison.baseline]}"
            note = f"p = {p_words(each.p)}, {each.finding}"
            rows.append(
                Interval(each.arm, place[each.arm], gain.value, gain.low, gain.high, n, note)
            )
        caption = (
            f"How often a run of the arm has a higher score than a run of {comparison.baseline} in "
            f"the same game; ties count half; at the line neither is better. Bars: {BOOTSTRAP}; "
            f"{about}. Test over all games: permutation of labels within games, two-sided, Holm "
            f"for {len(comparison.arms)}.{few_seeds(counts)}"
        )
        panel = IntervalPanel(f"against {comparison.baseline}", tuple(rows))
        charts.append(
            IntervalChart(
                "improvement",
                "Probability of improvement",
                caption,
                "probability",
                (panel,),
                0.5,
                (0, 1),
            )
        )
    charts.append(_profiles(comparison, scores, place, about))
    return charts


def _profiles(
    comparison: Comparison,
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    place: Mapping[str, int],
    about: str,
) -> LineChart:
    at = np.linspace(0, 1, 61)
    lines = []
    for arm, games in scores.items():
        found = profile(games, at)
        n = np.full(len(at), sum(map(len, games.values())), np.float64)
        lines.append(
            Line(arm, place[arm], found.value, _or_nan(found.low, at), _or_nan(found.high, at), n)
        )
    caption = (
        f"Share of runs whose scaled score is above the threshold, each game counting the same; "
        f"higher is better everywhere. {comparison.scale[0].upper()}{comparison.scale[1:]}. Bands: "
        f"{BOOTSTRAP}, at each threshold by itself; {about}."
    )
    panel = LinePanel("All games", at, tuple(lines))
    return LineChart(
        "profiles",
        "Performance profiles",
        caption,
        "scaled score",
        "share of runs",
        (panel,),
        (0, 1),
    )


def _or_nan(ends: Numbers | None, at: Numbers) -> Numbers:
    return np.full(at.shape, np.nan) if ends is None else ends
