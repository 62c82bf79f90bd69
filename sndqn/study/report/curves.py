"""Quantities over training: learning curves, and what happened in the networks."""

import re
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from sndqn.envs import find_env
from sndqn.errors import SndqnError
from sndqn.study.bootstrap import band
from sndqn.study.report.charts import Line, LineChart, LinePanel
from sndqn.study.report.words import BOOTSTRAP, few_seeds, runs_words
from sndqn.study.results import Results, RunResult
from sndqn.study.run_files import Numbers, Series
from sndqn.study.statistics import mean

# Points of a line, at most and at least, and of all lines together.
_MOST, _LEAST, _ALL = 120, 16, 40_000
# Of metrics.jsonl, beside what diagnostics measure, which has no prefix.
_TRAINING = {
    "train/loss": "loss",
    "train/q_mean": "mean Q-value",
    "train/q_max": "largest Q-value",
}
_FRAMES_PER_STEP = 4
# How many states diagnostics looked at: no result.
_PROBE = "states"

Pick = Callable[[RunResult], Series | None]
# From values by run and point to the lower and upper ends at each point.
Ends = Callable[[Numbers, Numbers], tuple[Numbers, Numbers]]


def learning_curves(results: Results) -> list[LineChart]:
    """Returns the figure of mean returns over training."""
    pick = returns_of(results)
    panels = _panels(
        results, _points(results, 1), [(env, env, pick) for env in results.envs], _bootstrap
    )
    if not panels:
        return []
    what = (
        "Mean return of evaluations on the way (up to 10 whole games each, raw scores)"
        if pick is _evaluations and any(run.evaluations for run in results.runs)
        else "Mean return of the last 100 training games, exploration included"
    )
    counts = _counts(results, pick)
    caption = f"{what}. {_one_line(counts)}"
    if max(counts) > 1:
        caption = (
            f"{what}. Lines: mean over seeds, {runs_words(counts)}; faint where not all of them "
            f"have got that far. Bands: {BOOTSTRAP}, at each step by itself.{few_seeds(counts)}"
        )
    title = "Learning curves"
    label = steps_label(results)
    return [LineChart("learning-curves", title, caption, label, "mean return", panels)]


def returns_of(results: Results) -> Pick:
    """Returns the source of learning curves, the same for all runs.

    Evaluations on the way if every run with any curve has them, else training games.
    """
    evaluated = all(run.evaluations for run in results.runs if run.training_returns)
    return _evaluations if evaluated else _training_returns


def diagnostics(results: Results) -> list[LineChart]:
    """Returns the figures of what happened in the networks: σ first, then what was measured."""
    quantities = sorted(
        {name for run in results.runs for name in run.course.layers},
        key=lambda name: (not name.startswith("sigma"), name),
    )
    known = {name for run in results.runs for name in run.course.totals}
    totals = [name for name in _TRAINING if name in known]
    totals += sorted(name for name in known if "/" not in name and name != _PROBE)
    points = _points(results, len(totals) + 4 * len(quantities))
    charts = []
    for name in quantities:
        title = "σ by layer" if name == "sigma" else f"{_plain(name)} by layer"
        wanted = [
            (_layer_title(results, env, index, layer), env, _of_layer(name, layer))
            for env in results.envs
            for index, layer in _layers(results, env, name)
        ]
        charts += _chart(results, f"{name}-by-layer", title, _plain(name), wanted, points)
    for name in totals:
        wanted = [(env, env, _total(name)) for env in results.envs]
        charts += _chart(results, name, _plain(name), _plain(name), wanted, points)
    return charts


def _chart(
    results: Results,
    name: str,
    title: str,
    label: str,
    wanted: Sequence[tuple[str, str, Pick]],
    points: int,
) -> list[LineChart]:
    panels = _panels(results, points, wanted, _range)
    if not panels:
        return []
    counts = [int(line.n.max()) for panel in panels for line in panel.lines]
    caption = _one_line(counts)
    if max(counts) > 1:
        caption = (
            f"Lines: mean over seeds, {runs_words(counts)}. "
            "Bands: from the lowest to the highest seed."
        )
    if name.startswith("sigma-"):
        caption = (
            "Largest singular value of each weight layer: of a normalised one the value training "
            f"divides by, of a plain one an estimate of its weight's. {caption}"
        )
    file = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    return [LineChart(file, title, caption, steps_label(results), label, panels)]


def _one_line(counts: Sequence[int]) -> str:
    return f"Each line is one seed's, {runs_words(counts)}."


def _panels(
    results: Results, points: int, wanted: Sequence[tuple[str, str, Pick]], ends: Ends
) -> tuple[LinePanel, ...]:
    """Makes a panel for each of: title, game, what is picked of a run."""
    panels = []
    for title, env, pick in wanted:
        series = {
            arm: [found for run in results.of(env, arm) if (found := pick(run)) is not None]
            for arm in results.arms
        }
        grid = _grid([each for several in series.values() for each in several], points)
        lines = [
            _line(arm, results.arms.index(arm), several, grid, ends)
            for arm, several in series.items()
            if several
        ]
        if lines and grid.size:
            panels.append(LinePanel(title, grid, tuple(lines)))
    return tuple(panels)


def _line(arm: str, place: int, series: Sequence[Series], grid: Numbers, ends: Ends) -> Line:
    """Takes the mean over runs at every point; the interval where all runs have got that far."""
    values = np.stack([_at(each, grid) for each in series], axis=1)
    there = np.isfinite(values)
    n = there.sum(axis=1)
    total = np.where(there, values, 0.0).sum(axis=1)
    y = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    low, high = np.full(len(grid), np.nan), np.full(len(grid), np.nan)
    whole = n == len(series)
    if len(series) > 1 and whole.any():
        low[whole], high[whole] = ends(grid[whole], values[whole])
    return Line(arm, place, y, low, high, n.astype(np.float64))


def _at(series: Series, grid: Numbers) -> Numbers:
    """Interpolates between a run's points; NaN before its first and after its last."""
    there = np.isfinite(series.values)
    if not there.any():
        return np.full(len(grid), np.nan)
    found = np.interp(
        grid, series.timesteps[there], series.values[there], left=np.nan, right=np.nan
    )
    return np.asarray(found, np.float64)


def _grid(series: Sequence[Series], points: int) -> Numbers:
    """Returns the steps of all runs, evenly thinned to so many."""
    if not series:
        return np.empty(0)
    union = np.unique(np.concatenate([each.timesteps for each in series]))
    if len(union) <= points:
        return union
    if any(len(each.timesteps) * 2 < len(union) for each in series):  # runs look at other steps
        return np.linspace(union[0], union[-1], points)
    chosen: Numbers = union[np.unique(np.linspace(0, len(union) - 1, points).round().astype(int))]
    return chosen


def _bootstrap(at: Numbers, values: Numbers) -> tuple[Numbers, Numbers]:
    found = band(at, mean, {"": values}, replicates=1_000)
    none = np.full(len(at), np.nan)
    return (
        none if found.low is None else found.low,
        none if found.high is None else found.high,
    )


def _range(_: Numbers, values: Numbers) -> tuple[Numbers, Numbers]:
    return values.min(axis=1), values.max(axis=1)


def _points(results: Results, quantities: int) -> int:
    lines = max(len(results.envs) * len(results.arms) * quantities, 1)
    return min(_MOST, max(_LEAST, _ALL // lines))


def _counts(results: Results, pick: Pick) -> list[int]:
    counts = [
        sum(pick(run) is not None for run in results.of(env, arm))
        for env in results.envs
        for arm in results.arms
    ]
    return [n for n in counts if n]


def _layers(results: Results, env: str, quantity: str) -> list[tuple[int, str]]:
    """Returns index and name of a game's layers that a quantity is known of, the first first."""
    found = {
        (run.layers.get(layer, 0), layer)
        for run in results.runs
        if run.env == env
        for layer in run.course.layers.get(quantity, ())
    }
    return sorted(found)


def _layer_title(results: Results, env: str, index: int, layer: str) -> str:
    words = f"layer {index}, {layer}" if index else layer
    return f"{env}: {words}" if len(results.envs) > 1 else words


def _plain(name: str) -> str:
    return _TRAINING.get(name, name.replace("_", " ").replace("sigma", "σ"))


def steps_label(results: Results) -> str:
    """Names the x axis; of Atari it says what a step is."""
    frames = {
        run.settings.get("frame_skip") or _FRAMES_PER_STEP
        for run in results.runs
        if _is_atari(run.env)
    }
    if len(frames) != 1:
        return "environment steps"
    return f"environment steps (1 step = {frames.pop()} frames of Atari)"


@cache
def _is_atari(env: str) -> bool:
    try:
        return find_env(env)[0] == "atari"
    except SndqnError:
        return False


def _evaluations(run: RunResult) -> Series | None:
    return run.evaluations


def _training_returns(run: RunResult) -> Series | None:
    return run.training_returns


def _total(name: str) -> Pick:
    return lambda run: run.course.totals.get(name)


def _of_layer(quantity: str, layer: str) -> Pick:
    return lambda run: run.course.layers.get(quantity, {}).get(layer)
