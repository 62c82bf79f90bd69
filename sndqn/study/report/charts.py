"""Figures as data: drawn as SVG in the page, as PDF and PNG by matplotlib, written as CSV.

A figure has panels, such as one a game. What it shows of an arm carries the arm's number, which
decides its colour, dash and marker everywhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sndqn.study.run_files import Numbers

Cell = str | float | int | None


@dataclass(frozen=True)
class Line:
    """A line with the interval around it.

    Attributes:
        label: What it is of.
        arm: Number of the arm.
        y: Values, shape (n,), NaN where there are none.
        low: Lower ends of the interval, NaN where there is none.
        high: Upper ends.
        n: Of how many runs each value is.
    """

    label: str
    arm: int
    y: Numbers
    low: Numbers
    high: Numbers
    n: Numbers


@dataclass(frozen=True)
class LinePanel:
    """Lines over the same x, shape (n,)."""

    title: str
    x: Numbers
    lines: tuple[Line, ...]

    @property
    def x_range(self) -> tuple[float, float]:
        """Of the axis: from 0, or from less where x begins there."""
        return min(float(self.x[0]), 0.0), float(self.x[-1])


@dataclass(frozen=True)
class LineChart:
    """A figure of lines.

    Attributes:
        name: Of its files.
        title: What it shows.
        caption: What a line and a band are, of how many runs.
        x_label: With its unit.
        y_label: With its unit.
        panels: Drawn beside each other.
        y_range: Of all panels; None fits each.
    """

    kind: ClassVar[str] = "lines"
    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    panels: tuple[LinePanel, ...]
    y_range: tuple[float, float] | None = None

    def rows(self) -> Iterator[list[Cell]]:
        """Yields the lines of its CSV, the header first."""
        yield ["panel", "line", self.x_label, self.y_label, "low", "high", "n"]
        for panel in self.panels:
            for line in panel.lines:
                for at, x in enumerate(panel.x.tolist()):
                    if np.isfinite(line.y[at]):
                        numbers = (line.y[at], line.low[at], line.high[at])
                        cells = [_cell(number) for number in numbers]
                        yield [panel.title, line.label, x, *cells, int(line.n[at])]


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        label: What it is of.
        arm: Number of the arm.
        estimate: The number.
        low: Lower end; None where there is no interval.
        high: Upper end.
        n: Of how many runs it is, in words: "3 and 3".
        note: What else is to be said, such as a p value.
    """

    label: str
    arm: int
    estimate: float
    low: float | None
    high: float | None
    n: str
    note: str = ""


@dataclass(frozen=True)
class IntervalPanel:
    """Estimates on one axis."""

    title: str
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class IntervalChart:
    """A figure of estimates with their intervals.

    Attributes:
        reference: Where nothing differs, which gets a line: 0 for a difference; None draws none.
        x_range: Of all panels; None fits each.
    """

    kind: ClassVar[str] = "intervals"
    name: str
    title: str
    caption: str
    x_label: str
    panels: tuple[IntervalPanel, ...]
    reference: float | None = None
    x_range: tuple[float, float] | None = None

    def rows(self) -> Iterator[list[Cell]]:
        """Yields the lines of its CSV, the header first."""
        yield ["panel", "of", self.x_label, "low", "high", "n", "note"]
        for panel in self.panels:
            for each in panel.intervals:
                numbers: list[Cell] = [each.estimate, each.low, each.high]
                yield [panel.title, each.label, *numbers, each.n, each.note]


@dataclass(frozen=True)
class HeatPanel:
    """Values by row and column.

    Attributes:
        title: What they are of.
        values: Shape (rows, columns), NaN where there is no run.
        n: Of how many runs each is.
        ends: The lowest and the highest value of the scale of colours.
    """

    title: str
    values: Numbers
    n: Numbers
    ends: tuple[float, float]


@dataclass(frozen=True)
class HeatMap:
    """A figure of a value over two settings."""

    kind: ClassVar[str] = "heat"
    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    columns: tuple[str, ...]
    row_names: tuple[str, ...]
    panels: tuple[HeatPanel, ...]

    def rows(self) -> Iterator[list[Cell]]:
        """Yields the lines of its CSV, the header first."""
        yield ["panel", self.y_label, self.x_label, "mean return", "n"]
        for panel in self.panels:
            for i, row in enumerate(self.row_names):
                for j, column in enumerate(self.columns):
                    value = _cell(panel.values[i, j])
                    yield [panel.title, row, column, value, int(panel.n[i, j])]


Chart = LineChart | IntervalChart | HeatMap


def _cell(value: float) -> Cell:
    return float(value) if np.isfinite(value) else None


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Returns round numbers from `low` to `high`, about so many."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / about
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
    return [float(step * k) for k in np.arange(first, last + 1)]


def extent(values: Sequence[Numbers | Sequence[float]], pad: float = 0.05) -> tuple[float, float]:
    """Returns the range of all finite values, somewhat wider; (0, 1) where there is none."""
    flat = np.concatenate([np.empty(0), *(np.ravel(np.asarray(part, float)) for part in values)])
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return 0.0, 1.0
    low, high = float(flat.min()), float(flat.max())
    room = (high - low) * pad or abs(high) * pad or 0.5
    return low - room, high + room


def number(value: float) -> str:
    """Writes a number for people: at most four digits that count, and a true minus sign."""
    if not np.isfinite(value):
        return "–"
    if value and not 1e-3 <= abs(value) < 1e6:
        text = f"{value:.2e}"
    else:
        digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
        text = f"{value:,.{digits}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−") if text not in ("-0",) else "0"


def short_number(value: float) -> str:
    """Writes a round number for an axis: 20k, 1.5M."""
    value = value or 0.0  # no minus before 0
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}".replace("-", "−")
    return f"{value:.6g}".replace("-", "−")
