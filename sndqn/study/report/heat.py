"""Mean returns over two settings, where runs differ in two that are numbers."""

from typing import Any

import numpy as np

from sndqn.study.arms import arm_name, shown
from sndqn.study.report.charts import HeatMap, HeatPanel
from sndqn.study.report.words import joined, seeds_words
from sndqn.study.results import Results, RunResult
from sndqn.study.run_files import Numbers


def heat_maps(results: Results) -> list[HeatMap]:
    """Returns the heat-map over the first two numeric settings that differ, if there are two.

    A panel for each game and each combination of the other settings that differ.
    """
    done = [run for run in results.runs if run.score is not None]
    numeric = [name for name in results.differing if _is_numeric(done, name)]
    if len(numeric) < 2:
        return []
    down, across = numeric[:2]
    rest = [name for name in results.differing if name not in (down, across)]
    rows, columns = _values(done, down), _values(done, across)
    tables = {
        (env, title): _table(runs, (down, rows), (across, columns))
        for (env, title), runs in _groups(done, rest).items()
    }
    panels = [
        HeatPanel(
            title, values, n, _ends([v for (game, _), (v, _) in tables.items() if game == env])
        )
        for (env, title), (values, n) in tables.items()
    ]
    counts = [int(n) for _, by_cell in tables.values() for n in by_cell.flat if n]
    caption = (
        f"Mean return of the final evaluation by {down} and {across}, {seeds_words(counts)} runs a "
        "cell. The darkest cell of a game is its lowest, the lightest its highest; a dashed cell "
        "has no run. No test is made between cells."
    )
    return [
        HeatMap(
            "heat-map",
            f"Over {joined([down, across])}",
            caption,
            across,
            down,
            tuple(map(shown, columns)),
            tuple(map(shown, rows)),
            tuple(panels),
        )
    ]


def _is_numeric(runs: list[RunResult], name: str) -> bool:
    values = [run.settings.get(name) for run in runs]
    return len(set(map(repr, values))) > 1 and all(type(value) in (int, float) for value in values)


def _values(runs: list[RunResult], name: str) -> list[Any]:
    return sorted({run.settings[name] for run in runs})


def _table(
    runs: list[RunResult], down: tuple[str, list[Any]], across: tuple[str, list[Any]]
) -> tuple[Numbers, Numbers]:
    """Returns the mean score and the number of runs by row and column.

    Args:
        runs: Finished ones.
        down: The rows' setting, and its values.
        across: The columns'.
    """
    values = np.full((len(down[1]), len(across[1])), np.nan)
    n = np.zeros(values.shape)
    for i, row in enumerate(down[1]):
        for j, column in enumerate(across[1]):
            scores = [
                run.score
                for run in runs
                if (run.settings[down[0]], run.settings[across[0]]) == (row, column)
                and run.score is not None
            ]
            if scores:
                values[i, j], n[i, j] = np.mean(scores), len(scores)
    return values, n


def _ends(tables: list[Numbers]) -> tuple[float, float]:
    return min(float(np.nanmin(table)) for table in tables), max(
        float(np.nanmax(table)) for table in tables
    )


def _groups(runs: list[RunResult], names: list[str]) -> dict[tuple[str, str], list[RunResult]]:
    """Sorts runs by game and by what is to be a panel: the other settings that differ."""
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        title = ", ".join([run.env, arm_name(run.settings, names)] if names else [run.env])
        groups.setdefault((run.env, title), []).append(run)
    return dict(sorted(groups.items()))
