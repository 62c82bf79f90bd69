"""How the page of evidence writes names, scores and tables."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any


def titled(game: str) -> str:
    """Gives a game's name with its suite."""
    return game.replace("/", " ") if "/" in game else f"Atari {game}"


def spread(values: Sequence[float]) -> str:
    """Writes mean and standard deviation of seeds."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{deviation} ({len(values)})"


def interval(estimate: Any) -> str:
    """Writes an estimate with its interval."""
    if estimate.low is None:
        return f"{estimate.value:+.3f}"
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], columns: str = "") -> str:
    """Makes a table; "r" among the columns is one of numbers, as all but the first are without."""
    columns = columns or "-" + "r" * (len(head) - 1)
    rule = ["--:" if column == "r" else "---" for column in columns]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))
