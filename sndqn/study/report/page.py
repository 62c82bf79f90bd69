"""The page: one HTML file with everything in it, that asks no server and no network.

Whatever comes from files is escaped by the template engine. The page's policy lets no script run
but ours, so that a name that slipped through could still do nothing.
"""

import base64
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sndqn.study.report import svg
from sndqn.study.report.charts import Chart, LineChart, LinePanel, number
from sndqn.study.report.compare import Comparison
from sndqn.study.report.findings import (
    arm_rows,
    arms_caption,
    gain_rows,
    gains_caption,
    game_rows,
    games_caption,
)
from sndqn.study.report.tables import (
    differing_table,
    notes_of,
    provenance_rows,
    run_rows,
    status_words,
)
from sndqn.study.report.verdict import verdict
from sndqn.study.results import Results, RunResult
from sndqn.study.run_files import Numbers

MAX_EPISODES = 500
"""Rows of the table of episodes."""
MAX_EMBEDDED = 1_000_000
"""Bytes of a video that is put into the page; a larger one is linked to."""

_HERE = Path(__file__).parent
_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".gif": "image/gif"}


def render(
    results: Results,
    comparison: Comparison,
    charts: Sequence[Chart],
    layers: Sequence[Chart],
    folder: Path,
    refresh: int | None = None,
) -> str:
    """Writes the page.

    Args:
        results: The runs.
        comparison: What they say.
        charts: The figures.
        layers: Those of what happened in the networks.
        folder: Where the page will be: links to videos are relative to it.
        refresh: Seconds after which a browser loads it again; None for a page that stays.
    """
    script = _own("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    engine = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    drawn, data = _drawn([*charts, *layers])
    now = time.time()
    single = results.runs[0] if len(results.runs) == 1 else None
    return engine.from_string(_own("page.html")).render(
        title=results.title,
        status=status_words(results),
        as_of=time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now)),
        as_of_iso=time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now)),
        refresh=refresh,
        script=Markup(script),
        script_hash=Markup(f"sha256-{digest}"),
        style=Markup(_own("page.css")),
        verdict=verdict(results, comparison),
        notes=notes_of(results),
        arms=arm_rows(results, comparison),
        arms_caption=arms_caption(comparison),
        gains=gain_rows(results, comparison),
        gains_caption=gains_caption(comparison),
        games=game_rows(results, comparison),
        games_caption=games_caption(comparison),
        baseline=comparison.baseline,
        legend=results.arms,
        keys=[svg.key(place) for place in range(len(results.arms))],
        charts=drawn[: len(charts)],
        layers=drawn[len(charts) :],
        episodes=None if single is None else _episodes(single),
        videos=[] if single is None else [_video(path, folder) for path in single.videos],
        differing=differing_table(results),
        provenance=provenance_rows(results),
        runs=run_rows(results),
        unreadable=[(str(path), reason) for path, reason in results.unreadable],
        data=Markup(_json_in_html(data)),
        footer=_footer(),
    )


def _own(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _drawn(
    charts: Sequence[Chart],
) -> tuple[list[tuple[Chart, Sequence[tuple[str, Markup]]]], list[dict[str, Any]]]:
    """Draws every figure, and collects the values that show under the pointer."""
    drawn: list[tuple[Chart, Sequence[tuple[str, Markup]]]] = []
    data: list[dict[str, Any]] = []
    for chart in charts:
        drawn.append((chart, svg.panels(chart, len(data))))
        if isinstance(chart, LineChart):
            data += [_panel_data(chart, panel) for panel in chart.panels]
    return drawn, data


def _panel_data(chart: LineChart, panel: LinePanel) -> dict[str, Any]:
    lines = [
        {
            "arm": line.arm,
            "label": line.label,
            "y": _rounded(line.y),
            "low": _rounded(line.low),
            "high": _rounded(line.high),
            "n": [int(n) for n in line.n],
        }
        for line in panel.lines
    ]
    return {
        "x": _rounded(panel.x, 7),
        "x_label": chart.x_label,
        "range": list(panel.x_range),
        "lines": lines,
    }


def _rounded(values: Numbers, digits: int = 4) -> list[float | None]:
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values.tolist()]


def _json_in_html(data: object) -> str:
    """Writes JSON that no word in it can end the element of."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _episodes(run: RunResult) -> dict[str, Any] | None:
    record = run.evaluation
    if record is None:
        return None
    protocol, n = record.protocol, len(record.episodes)
    shown = f" The table has the first {MAX_EPISODES}." if n > MAX_EPISODES else ""
    return {
        "caption": f"{n} whole games with raw rewards, ε {protocol.epsilon:g}, "
        f"seed {protocol.seed}; mean {number(record.mean)}, standard deviation "
        f"{number(record.std)}, from {number(record.min)} to {number(record.max)}.{shown}",
        "rows": [
            {
                "return": number(episode.episode_return),
                "length": f"{episode.length:,}",
                "ended_by": episode.ended_by.replace("_", " "),
                "seed": episode.seed,
            }
            for episode in record.episodes[:MAX_EPISODES]
        ],
    }


def _video(path: Path, folder: Path) -> Mapping[str, str]:
    """Puts a small video into the page; links to a larger one, from where the page is."""
    name, kind = path.name, _TYPES[path.suffix]
    if path.stat().st_size < MAX_EMBEDDED:
        content = base64.b64encode(path.read_bytes()).decode()
        place = "image" if kind.startswith("image") else "data"
        return {"name": name, "data": "", "image": "", place: f"data:{kind};base64,{content}"}
    relative = os.path.relpath(path.resolve(), folder.resolve())
    # "./" keeps a name with a colon from being read as a scheme.
    return {"name": name, "data": "", "image": "", "link": "./" + quote(Path(relative).as_posix())}


def _footer() -> str:
    from importlib.metadata import version

    return (
        f"Written by sndqn {version('sndqn')}. Statistics after Agarwal et al. (NeurIPS 2021). "
        "Every figure's numbers: sndqn report ... --format csv."
    )
