"""Sample efficiency: the interquartile mean of all games and seeds over training."""

import numpy as np

from sndqn.study.curves import sample_efficiency
from sndqn.study.report.charts import Line, LineChart, LinePanel
from sndqn.study.report.curves import returns_of, steps_label
from sndqn.study.report.scale import by_reference
from sndqn.study.report.words import BOOTSTRAP, few_seeds, runs_words
from sndqn.study.results import Results
from sndqn.study.run_files import Numbers, Series
from sndqn.study.scores import normalised, without_reference

_POINTS = 40
_REPLICATES = 500


def sample_efficiency_chart(results: Results) -> list[LineChart]:
    """Returns the figure, where there are several games and each of them has a reference score.

    It ends where the first run ends, so that every point is of the same runs.
    """
    games = results.envs
    if len(games) < 2 or without_reference(games):
        return []
    curves = {arm: _curves(results, arm) for arm in results.arms}
    curves = {arm: by_game for arm, by_game in curves.items() if len(by_game) == len(games)}
    at = _common_steps([c for by_game in curves.values() for of in by_game.values() for c in of])
    if not curves or len(at) < 2:
        return []
    lines, counts = [], []
    for arm, by_game in curves.items():
        pairs = {env: [(c.timesteps, c.values) for c in of] for env, of in by_game.items()}
        found = sample_efficiency(pairs, at=at, replicates=_REPLICATES)
        none = np.full(len(at), np.nan)
        low, high = (none if end is None else end for end in (found.low, found.high))
        counts += [len(of) for of in by_game.values()]
        n = np.full(len(at), float(sum(map(len, by_game.values()))))
        lines.append(Line(arm, results.arms.index(arm), found.value, low, high, n))
    scale = by_reference(games)
    caption = (
        f"IQM of all games and seeds; it ends where the first run ends. {scale.sentence} Bands: "
        f"{BOOTSTRAP}, at each step by itself; {runs_words(counts)}, {len(games)} games."
        f"{few_seeds(counts)}"
    )
    panel = LinePanel("All games", at, tuple(lines))
    title, label = "Sample efficiency", f"IQM, {scale.name}"
    return [LineChart("sample-efficiency", title, caption, steps_label(results), label, (panel,))]


def _curves(results: Results, arm: str) -> dict[str, list[Series]]:
    """Returns the normalised curves of an arm by game."""
    pick = returns_of(results)
    found: dict[str, list[Series]] = {}
    for run in (run for run in results.runs if run.arm == arm):
        curve = pick(run)
        if curve is not None and np.isfinite(curve.values).all():
            values = normalised({run.env: curve.values})[run.env]
            found.setdefault(run.env, []).append(Series(curve.timesteps, values))
    return found


def _common_steps(curves: list[Series]) -> Numbers:
    """Returns evenly many steps from where the last curve begins to where the first one ends."""
    if not curves:
        return np.empty(0)
    first = max(float(curve.timesteps[0]) for curve in curves)
    last = min(float(curve.timesteps[-1]) for curve in curves)
    return np.linspace(first, last, _POINTS) if first < last else np.empty(0)
