"""The same figures by matplotlib, for papers and slides: PDF and PNG."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from sndqn.errors import MissingExtraError
from sndqn.study.report.charts import (
    Chart,
    HeatMap,
    HeatPanel,
    IntervalChart,
    IntervalPanel,
    LineChart,
    LinePanel,
    number,
    short_number,
)

# Okabe and Ito's, the yellow left out: it cannot be seen on white.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 2)), (0, (6, 2, 1.5, 2)))
_MARKERS = ("o", "s", "^", "D")
_COLUMNS = 3


def require_matplotlib() -> None:
    """Refuses where matplotlib is not installed.

    Raises:
        MissingExtraError: It is not.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "--format: pdf and png are drawn by matplotlib: pip install 'sndqn[report]'"
        ) from None


def drawn(chart: Chart, arms: Sequence[str], kinds: Sequence[str]) -> dict[str, bytes]:
    """Draws a figure.

    Args:
        chart: The figure.
        arms: Names of the arms, by number.
        kinds: "pdf", "png".

    Returns:
        The content of a file of each kind.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    height = _height(chart)
    with rc_context({"font.size": 8, "pdf.fonttype": 42, "text.parse_math": False}):
        figure = Figure(figsize=(3.5 * columns, height * rows + 0.35), layout="constrained")
        FigureCanvasAgg(figure)
        every = [figure.add_subplot(rows, columns, at + 1) for at in range(len(chart.panels))]
        for axes, title in zip(every, [panel.title for panel in chart.panels], strict=True):
            axes.set_title(title, fontsize=8, loc="left")
        if isinstance(chart, LineChart):
            for axes, lines in zip(every, chart.panels, strict=True):
                _lines(axes, chart, lines)
            _legend(figure, chart, arms)
        elif isinstance(chart, IntervalChart):
            for axes, intervals in zip(every, chart.panels, strict=True):
                _intervals(axes, chart, intervals)
        else:
            for axes, cells in zip(every, chart.panels, strict=True):
                _heat(axes, chart, cells)
        files = {}
        for kind in kinds:
            content = io.BytesIO()
            # No time in the file: the same figure is the same to the bit.
            about = {"CreationDate": None} if kind == "pdf" else {"Software": None}
            figure.savefig(content, format=kind, dpi=200, metadata=about)
            files[kind] = content.getvalue()
    return files


def _height(chart: Chart) -> float:
    if isinstance(chart, LineChart):
        return 2.4
    if isinstance(chart, IntervalChart):
        return 0.7 + 0.3 * max(len(panel.intervals) for panel in chart.panels)
    return 0.9 + 0.32 * len(chart.row_names)


def _style(arm: int) -> dict[str, Any]:
    dash = _DASHES[(arm + arm // len(_COLORS)) % len(_DASHES)]
    return {"color": _COLORS[arm % len(_COLORS)], "linestyle": dash}


def _lines(axes: Any, chart: LineChart, panel: LinePanel) -> None:
    for line in panel.lines:
        style = _style(line.arm)
        axes.plot(panel.x, line.y, linewidth=1.3, **style)
        axes.fill_between(
            panel.x, line.low, line.high, color=style["color"], alpha=0.18, linewidth=0
        )
        there = np.flatnonzero(np.isfinite(line.y))
        if there.size:
            marker = _MARKERS[line.arm % len(_MARKERS)]
            at = panel.x[there[-1]], line.y[there[-1]]
            axes.plot(*at, marker=marker, color=style["color"], markersize=4, clip_on=False)
    if chart.y_range is not None:
        axes.set_ylim(*chart.y_range)
    if panel.x_range[0] < panel.x_range[1]:
        axes.set_xlim(*panel.x_range)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.locator_params(axis="x", nbins=5)
    _plain(axes)


def _intervals(axes: Any, chart: IntervalChart, panel: IntervalPanel) -> None:
    names = []
    for place, each in enumerate(panel.intervals):
        color = _COLORS[each.arm % len(_COLORS)]
        if each.low is not None and each.high is not None:
            axes.plot([each.low, each.high], [place, place], color=color, linewidth=2.5, alpha=0.75)
        marker = _MARKERS[each.arm % len(_MARKERS)]
        axes.plot(each.estimate, place, marker=marker, color=color, markersize=6)
        names.append(each.label)
    if chart.reference is not None:
        axes.axvline(chart.reference, color="black", linewidth=0.8, linestyle="--")
    if chart.x_range is not None:
        axes.set_xlim(*chart.x_range)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(chart.x_label)
    _plain(axes)


def _heat(axes: Any, chart: HeatMap, panel: HeatPanel) -> None:
    low, high = panel.ends
    shown = np.ma.masked_invalid(panel.values)
    axes.imshow(shown, cmap="cividis", aspect="auto", vmin=low, vmax=high)
    for (i, j), value in np.ndenumerate(panel.values):
        if np.isfinite(value):
            light = high > low and (value - low) / (high - low) > 0.55
            ink = "black" if light else "white"
            axes.text(j, i, number(float(value)), ha="center", va="center", color=ink, fontsize=7)
    axes.set_xticks(range(len(chart.columns)), chart.columns)
    axes.set_yticks(range(len(chart.row_names)), chart.row_names)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)


def _plain(axes: Any) -> None:
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(figure: Any, chart: LineChart, arms: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    numbers = sorted({line.arm for panel in chart.panels for line in panel.lines})
    handles = [
        Line2D([], [], marker=_MARKERS[arm % len(_MARKERS)], markersize=4, **_style(arm))
        for arm in numbers
    ]
    names = [arms[arm] for arm in numbers]
    figure.legend(handles, names, loc="outside upper left", ncols=4, frameon=False, fontsize=7)
