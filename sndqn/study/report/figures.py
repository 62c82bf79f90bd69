"""Which figures a report has, and what they say: from results and comparison to data of figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from sndqn.study.report.compare import REPLICATES, Comparison, GameComparison
from sndqn.study.report.curves import learning_curves
from sndqn.study.report.efficiency import sample_efficiency_chart
from sndqn.study.report.heat import heat_maps
from sndqn.study.report.scale import Scale
from sndqn.study.report.words import BOOTSTRAP, few_seeds, p_equals, runs_words
from sndqn.study.results import Results
from sndqn.study.run_files import Numbers
from sndqn.study.statistics import AGGREGATES, profile

_AGGREGATES = {"iqm": "IQM: mean of the middle half", "mean": "Mean", "median": "Median"}


def figures(results: Results, comparison: Comparison) -> list[Chart]:
    """Returns all figures that there is data for, the most telling first."""
    against = comparison.baseline
    charts: list[Chart] = [
        *_compared(results, comparison.games, "differences", "How much better, by game", against),
        *_compared(
            results,
            [game for gain in comparison.gains for game in gain.of.games],
            "gains",
            "What SN adds, all else equal, by game",
            "the arm without SN whose other settings are the same",
        ),
        *learning_curves(results),
    ]
    charts += sample_efficiency_chart(results)
    pooled = _pooled(results, comparison)
    if pooled is not None and sum(pooled.counts) > 1:  # one run has no distribution
        charts.append(_aggregates(pooled))
        if comparison.arms:
            charts.append(_improvement(pooled, comparison))
        charts.append(_profiles(pooled))
    charts += heat_maps(results)
    return charts


def _compared(
    results: Results, games: Sequence[GameComparison], name: str, title: str, other: str
) -> list[Chart]:
    """Draws differences by game.

    Args:
        results: The runs.
        games: What was compared.
        name: Of the figure's files.
        title: What it shows.
        other: What arms were compared with.
    """
    panels = []
    for env in results.envs:
        rows = []
        for game in (game for game in games if game.env == env):
            n = f"{game.test.seeds[0]} and {game.test.seeds[1]}"
            gap, note = game.difference, f"{p_equals(game.p)}, {game.finding}"
            place = results.arms.index(game.arm)
            rows.append(Interval(game.arm, place, gap.value, gap.low, gap.high, n, note))
        if rows:
            panels.append(IntervalPanel(env, tuple(rows)))
    if not panels:
        return []
    counts = [n for game in games for n in game.test.seeds]
    tests = f"{len(games)} {'test' if len(games) == 1 else 'tests'}"
    caption = (
        f"Mean return of the final evaluation, less that of {other}; right of the line is better. "
        f"Bars: {BOOTSTRAP}; {runs_words(counts)}. Test: permutation of the runs' labels, "
        f"two-sided, p adjusted by Holm for {tests}.{few_seeds(counts)}"
    )
    label = "difference of mean return"
    return [IntervalChart(name, title, caption, label, tuple(panels), 0.0)]


@dataclass(frozen=True)
class _Pooled:
    """What is said of all games together.

    Attributes:
        scores: By arm and game, on one scale, of the games that all arms have.
        place: Number of each arm.
        total: Number of runs of each arm, in words.
        counts: Runs of each arm and game.
        scale: What a score is.
    """

    scores: Mapping[str, Mapping[str, Sequence[float]]]
    place: Mapping[str, int]
    total: Mapping[str, str]
    counts: Sequence[int]
    scale: Scale

    @property
    def about(self) -> str:
        """How many runs and games."""
        games = len(next(iter(self.scores.values())))
        words = f"{games} {'game' if games == 1 else 'games'}"
        return f"{runs_words(self.counts)}, {words}"


def _pooled(results: Results, comparison: Comparison) -> _Pooled | None:
    """Takes the games that all arms with finished runs have; None where there is none."""
    on_scale = comparison.scaled
    arms = [arm for arm in results.arms if on_scale.get(arm)]
    games = sorted(set.intersection(*(set(on_scale[arm]) for arm in arms))) if arms else []
    if not games:
        return None
    scores = {arm: {env: on_scale[arm][env] for env in games} for arm in arms}
    return _Pooled(
        scores=scores,
        place={arm: results.arms.index(arm) for arm in arms},
        total={arm: str(sum(map(len, scores[arm].values()))) for arm in arms},
        counts=[len(values) for arm in arms for values in scores[arm].values()],
        scale=comparison.scale,
    )


def _aggregates(pooled: _Pooled) -> IntervalChart:
    panels = []
    for name, words in _AGGREGATES.items():
        rows = []
        for arm, games in pooled.scores.items():
            found = estimate(AGGREGATES[name], games, replicates=REPLICATES)
            ends = found.low, found.high
            rows.append(Interval(arm, pooled.place[arm], found.value, *ends, pooled.total[arm]))
        panels.append(IntervalPanel(words, tuple(rows)))
    scale = pooled.scale
    return IntervalChart(
        name="aggregates",
        title="All runs together",
        caption=f"{scale.sentence} Bars: {BOOTSTRAP}; {pooled.about}.{few_seeds(pooled.counts)}",
        x_label=scale.name,
        panels=tuple(panels),
        x_range=scale.ends,
    )


def _improvement(pooled: _Pooled, comparison: Comparison) -> IntervalChart:
    rows = []
    for each in comparison.arms:
        gain, place = each.improvement, pooled.place[each.arm]
        n = f"{pooled.total[each.arm]} and {pooled.total[comparison.baseline]}"
        note = f"{p_equals(each.p)}, {each.finding}"
        rows.append(Interval(each.arm, place, gain.value, gain.low, gain.high, n, note))
    return IntervalChart(
        name="improvement",
        title="Probability of improvement",
        caption=(
            f"How often a run of the arm has a higher score than a run of {comparison.baseline} in "
            f"the same game; ties count half; at the line neither is better. Bars: {BOOTSTRAP}; "
            f"{pooled.about}. Test over all games: permutation of labels within games, two-sided, "
            f"Holm for {len(comparison.arms)}.{few_seeds(pooled.counts)}"
        ),
        x_label="probability",
        panels=(IntervalPanel(f"against {comparison.baseline}", tuple(rows)),),
        reference=0.5,
        x_range=(0, 1),
    )


def _profiles(pooled: _Pooled) -> LineChart:
    every = [v for games in pooled.scores.values() for values in games.values() for v in values]
    at = np.linspace(min(*every, 0), max(*every, 0), 101)
    lines = []
    for arm, games in pooled.scores.items():
        found = profile(games, at)
        n = np.full(len(at), float(pooled.total[arm]))
        ends = _or_nan(found.low, at), _or_nan(found.high, at)
        lines.append(Line(arm, pooled.place[arm], found.value, *ends, n))
    scale = pooled.scale
    return LineChart(
        name="profiles",
        title="Performance profiles",
        caption=(
            "Share of runs whose score is above the threshold, each game counting the same; higher "
            f"is better everywhere. {scale.sentence} Bands: {BOOTSTRAP}, at each threshold by "
            f"itself; {pooled.about}."
        ),
        x_label=scale.name,
        y_label="share of runs",
        panels=(LinePanel("All runs", at, tuple(lines)),),
        y_range=(0, 1),
    )


def _or_nan(ends: Numbers | None, at: Numbers) -> Numbers:
    return np.full(at.shape, np.nan) if ends is None else ends
