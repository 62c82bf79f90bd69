"""Draws figures as SVG that stands inside an HTML page and takes its colours from the page's CSS.

Every panel is as wide as a phone, so that its words stay readable; the page puts several beside
each other where there is room. What belongs to an arm has the class `arm` and `data-arm`.
"""

from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup, escape

from sndqn.study.report.charts import (
    HeatMap,
    HeatPanel,
    Interval,
    IntervalChart,
    IntervalPanel,
    LineChart,
    LinePanel,
    extent,
    nice_ticks,
    number,
    short_number,
)
from sndqn.study.run_files import Numbers

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 46, 350, 12, 190
_HEIGHT = 226
_ROW = 40
DASHES = ("", "7 3", "2 3", "9 3 2 3")
COLORS = 7
"""Colours that the page's CSS has; the next arms take them again with another dash."""

Scale = Callable[[float], float]


def line_panel(chart: LineChart, panel: LinePanel, index: int) -> Markup:
    """Draws lines with their bands.

    Args:
        chart: The figure.
        panel: One of its panels.
        index: Of the panel in the page's data, for the values under the pointer.
    """
    x_range = panel.x_range
    ends = [part for line in panel.lines for part in (line.y, line.low, line.high)]
    y_range = chart.y_range or extent(ends)
    x, y = _scale(x_range, LEFT, RIGHT), _scale(y_range, BOTTOM, TOP)
    parts = [_axes(x_range, y_range, x, y, chart.x_label)]
    for line in panel.lines:
        whole = line.n >= line.n.max()
        # The faint part begins where the other ends.
        part = ~whole | np.append(~whole[1:], False) | np.insert(~whole[:-1], 0, False)
        inner = [
            _band(panel.x, line.low, line.high, x, y),
            _path(panel.x, np.where(part, line.y, np.nan), x, y, "line faint", line.arm),
            _path(panel.x, np.where(whole, line.y, np.nan), x, y, "line", line.arm),
            _end(panel.x, line.y, x, y, line.arm),
        ]
        parts.append(_group(line.arm, "".join(inner)))
    label = f"{panel.title}: {chart.y_label} by {chart.x_label}"
    parts.append('<line class="cross" y1="12" y2="190" visibility="hidden"/>')
    extra = f' data-panel="{index}" tabindex="0"'
    return _svg(_HEIGHT, label, "".join(parts), extra)


def interval_panel(
    chart: IntervalChart, panel: IntervalPanel, x_range: tuple[float, float]
) -> Markup:
    """Draws estimates below each other, each with its interval and its number."""
    bottom = TOP + _ROW * len(panel.intervals)
    x = _scale(x_range, 12, WIDTH - 12)
    parts = []
    for tick in nice_ticks(*x_range):
        parts.append(
            f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="6" y2="{bottom}"/>'
        )
        parts.append(_text(x(tick), bottom + 15, short_number(tick), "middle"))
    if chart.reference is not None and x_range[0] <= chart.reference <= x_range[1]:
        at = x(chart.reference)
        for place in range(len(panel.intervals)):  # beside the bars, not through the words
            ends = f'y1="{TOP + _ROW * place + 18}" y2="{TOP + _ROW * place + 37}"'
            parts.append(f'<line class="reference" x1="{at:.1f}" x2="{at:.1f}" {ends}/>')
    for place, each in enumerate(panel.intervals):
        parts.append(_interval(each, x, TOP + _ROW * place))
    parts.append(_text(WIDTH / 2, bottom + 31, chart.x_label, "middle"))
    label = "; ".join(f"{each.label}: {interval_words(each)}" for each in panel.intervals)
    return _svg(bottom + 38, f"{panel.title}. {label}", "".join(parts))


def heat_panel(chart: HeatMap, panel: HeatPanel) -> Markup:
    """Draws a table of coloured numbers."""
    low, high = panel.ends
    rows, columns = panel.values.shape
    width, height = (WIDTH - 62) / columns, 34
    parts = []
    for i in range(rows):
        parts.append(_text(56, 24 + i * height + 21, chart.row_names[i], "end"))
        for j in range(columns):
            value, at = float(panel.values[i, j]), (62 + j * width, 24 + i * height)
            parts.append(_cell(value, low, high, at, (width, height), int(panel.n[i, j])))
    bottom = 24 + rows * height
    for j, name in enumerate(chart.columns):
        parts.append(_text(62 + (j + 0.5) * width, bottom + 15, name, "middle"))
    parts.append(_text(4, 14, chart.y_label, "start"))
    parts.append(_text(62 + columns * width / 2, bottom + 32, chart.x_label, "middle"))
    label = f"{panel.title}: {chart.title}, from {number(low)} to {number(high)}"
    return _svg(bottom + 40, label, "".join(parts))


def interval_range(chart: IntervalChart, panel: IntervalPanel) -> tuple[float, float]:
    """Returns the range of a panel's axis, the reference in it."""
    if chart.x_range is not None:
        return chart.x_range
    values = [each.estimate for each in panel.intervals]
    ends = [end for each in panel.intervals for end in (each.low, each.high) if end is not None]
    reference = [] if chart.reference is None else [chart.reference]
    return extent([values, ends, reference], 0.08)


def interval_words(each: Interval) -> str:
    """Writes an estimate with its interval: "1.2 [0.4, 2.0]"."""
    if each.low is None or each.high is None:
        return number(each.estimate)
    return f"{number(each.estimate)} [{number(each.low)}, {number(each.high)}]"


def key(arm: int) -> Markup:
    """Draws what stands for an arm in a legend: its line and its marker."""
    line = f'<line x1="1" x2="27" y1="7" y2="7" class="line"{_dash(arm)}/>'
    inner = f"{line}{_marker(arm, 14, 7)}"
    return Markup(
        f'<svg class="key c{arm % COLORS}" viewBox="0 0 28 14" width="28" height="14" '
        f'aria-hidden="true">{inner}</svg>'
    )


def _svg(height: float, label: str, inner: str, extra: str = "") -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}"{extra}>'
        f"{inner}</svg>"
    )


def _group(arm: int, inner: str) -> str:
    return f'<g class="arm c{arm % COLORS}" data-arm="{arm}">{inner}</g>'


def _scale(range_: tuple[float, float], start: float, end: float) -> Scale:
    low, high = range_
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _axes(
    x_range: tuple[float, float], y_range: tuple[float, float], x: Scale, y: Scale, x_label: str
) -> str:
    parts = []
    for tick in nice_ticks(*y_range, 5):
        at = y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(LEFT - 5, at + 4, short_number(tick), "end"))
    for tick in nice_ticks(*x_range, 4):
        anchor = "end" if x(tick) > RIGHT - 12 else "middle"
        parts.append(_text(min(x(tick), RIGHT + 6), BOTTOM + 15, short_number(tick), anchor))
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>')
    parts.append(_text((LEFT + RIGHT) / 2, BOTTOM + 31, x_label, "middle"))
    return "".join(parts)


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}>{escape(words)}</text>'


def _dash(arm: int) -> str:
    dash = DASHES[(arm + arm // COLORS) % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _path(xs: Numbers, ys: Numbers, x: Scale, y: Scale, kind: str, arm: int) -> str:
    steps = []
    pen_down = False
    for at, value in zip(xs.tolist(), ys.tolist(), strict=True):
        if not np.isfinite(value):
            pen_down = False
            continue
        steps.append(f"{'L' if pen_down else 'M'}{x(at):.1f} {y(value):.1f}")
        pen_down = True
    return f'<path class="{kind}" d="{"".join(steps)}"{_dash(arm)}/>' if len(steps) > 1 else ""


def _band(xs: Numbers, low: Numbers, high: Numbers, x: Scale, y: Scale) -> str:
    there = np.isfinite(low) & np.isfinite(high)
    if there.sum() < 2:
        return ""
    there_x = xs[there].tolist()
    upper = [f"{x(at):.1f} {y(v):.1f}" for at, v in zip(there_x, high[there].tolist(), strict=True)]
    lower = [f"{x(at):.1f} {y(v):.1f}" for at, v in zip(there_x, low[there].tolist(), strict=True)]
    return f'<path class="band" d="M{"L".join([*upper, *reversed(lower)])}Z"/>'


def _end(xs: Numbers, ys: Numbers, x: Scale, y: Scale, arm: int) -> str:
    """Draws the arm's marker at the end of its line."""
    there = np.flatnonzero(np.isfinite(ys))
    if not there.size:
        return ""
    return _marker(arm, x(float(xs[there[-1]])), y(float(ys[there[-1]])))


def _marker(arm: int, x: float, y: float) -> str:
    shape = arm % 4
    if shape == 0:
        return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if shape == 1:
        return f'<rect class="dot" x="{x - 3.8:.1f}" y="{y - 3.8:.1f}" width="7.6" height="7.6"/>'
    points = {
        2: ((0, -5), (5, 4), (-5, 4)),
        3: ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
    }[shape]
    where = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in points)
    return f'<polygon class="dot" points="{where}"/>'


def _interval(each: Interval, x: Scale, top: float) -> str:
    # As much of the name as fits before the numbers, at about 6.4 and 7.4 units a letter.
    fits = int((WIDTH - 34 - 7.4 * len(interval_words(each))) / 6.4)
    label = each.label if len(each.label) <= fits else f"{each.label[: max(fits - 1, 3)]}…"
    y, parts = top + 27, [_text(12, top + 14, label, "start")]
    parts.append(_text(WIDTH - 12, top + 14, interval_words(each), "end", "value"))
    if each.low is not None and each.high is not None:
        ends = f'x1="{x(each.low):.1f}" x2="{x(each.high):.1f}"'
        parts.append(f'<line class="whisker" {ends} y1="{y}" y2="{y}"/>')
    parts.append(_marker(each.arm, x(each.estimate), y))
    tip = f"{each.label}: {interval_words(each)}, n = {each.n}"
    tip += f", {each.note}" if each.note else ""
    inner = "".join(parts)
    return (
        f'<g class="arm c{each.arm % COLORS}" data-arm="{each.arm}" data-tip="{escape(tip)}">'
        f'<rect class="hit" x="0" y="{top}" width="{WIDTH}" height="{_ROW - 4}"/>{inner}</g>'
    )


# Of matplotlib's cividis, made for eyes that see few colours (Nuñez et al. 2018).
_CIVIDIS = (
    (0, 34, 78),
    (53, 69, 108),
    (102, 105, 112),
    (148, 142, 119),
    (200, 184, 102),
    (254, 232, 56),
)


def _cell(
    value: float,
    low: float,
    high: float,
    at: tuple[float, float],
    size: tuple[float, float],
    n: int,
) -> str:
    box = f'x="{at[0]:.1f}" y="{at[1]}" width="{size[0] - 2:.1f}" height="{size[1] - 2}"'
    if not np.isfinite(value):
        return f'<rect class="empty" {box}/>'
    share = (value - low) / (high - low) if high > low else 0.5
    red, green, blue = mixed(share)
    ink = "#000" if 0.3 * red + 0.59 * green + 0.11 * blue > 125 else "#fff"
    middle = _text(at[0] + size[0] / 2 - 1, at[1] + 20, number(value), "middle", "cell")
    middle = middle.replace("<text", f'<text style="fill:{ink}"', 1)
    tip = f"{number(value)}, n = {n}"
    return f'<g data-tip="{tip}"><rect fill="rgb({red},{green},{blue})" {box}/>{middle}</g>'


def mixed(share: float) -> tuple[int, int, int]:
    """Returns the colour for a share from 0 to 1: red, green and blue from 0 to 255."""
    place = min(max(share, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    index = min(int(place), len(_CIVIDIS) - 2)
    rest = place - index
    below, above = _CIVIDIS[index], _CIVIDIS[index + 1]
    red, green, blue = (round(b + (a - b) * rest) for b, a in zip(below, above, strict=True))
    return red, green, blue


def panels(chart: LineChart | IntervalChart | HeatMap, first: int) -> Sequence[tuple[str, Markup]]:
    """Draws a figure: title and picture of each panel.

    Args:
        chart: The figure.
        first: Of its first panel, the index in the page's data.
    """
    if isinstance(chart, LineChart):
        drawn = [line_panel(chart, panel, first + at) for at, panel in enumerate(chart.panels)]
        return [(panel.title, svg) for panel, svg in zip(chart.panels, drawn, strict=True)]
    if isinstance(chart, IntervalChart):
        return [
            (panel.title, interval_panel(chart, panel, interval_range(chart, panel)))
            for panel in chart.panels
        ]
    return [(panel.title, heat_panel(chart, panel)) for panel in chart.panels]
