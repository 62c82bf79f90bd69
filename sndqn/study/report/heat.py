"""Mean returns over two settings, where runs differ in two that are numbers."""

from typing import Any

import numpy as np

from sndqn.study.arms import shown
from sndqn.study.report.charts import HeatMap, HeatPanel
from sndqn.study.report.words import joined, seeds_words
from sndqn.study.results import Results, RunResult


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
    panels, counts = [], []
    for title, runs in _groups(done, rest).items():
        values = np.full((len(rows), len(columns)), np.nan)
        n = np.zeros(values.shape)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                found = [
                    run.score
                    for run in runs
                    if (run.settings[down], run.settings[across]) == (row, column)
                    and run.score is not None
                ]
                if found:
                    values[i, j], n[i, j] = np.mean(found), len(found)
                    counts.append(len(found))
        panels.append(HeatPanel(title, values, n))
    caption = (
        f"Mean return of the final evaluation by {down} and {across}, {seeds_words(counts)} runs a "
        "cell. Each panel has its own scale: the darkest is its lowest, the lightest its highest; "
        "a hatched cell has no run. No test is made between cells."
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


def _groups(runs: list[RunResult], names: list[str]) -> dict[str, list[RunResult]]:
    groups: dict[str, list[RunResult]] = {}
    for run in runs:
        parts = [f"{name} {shown(run.settings.get(name))}" for name in names]
        groups.setdefault(", ".join([run.env, *parts]), []).append(run)
    return dict(sorted(groups.items()))
