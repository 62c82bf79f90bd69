"""Text for a terminal that may hold what a stranger wrote: it steers nothing and stays short."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_LONGEST_LINE = 1000


def printable(text: str, lines: int = 2) -> str:
    """Gives the first lines of a text without control characters, each of bounded length."""
    return "\n".join(
        "".join(c if c.isprintable() else "?" for c in line[:_LONGEST_LINE])
        for line in text.split("\n")[:lines]
    )


def shortened(value: object) -> str:
    """Writes a value that a stranger may have chosen, in at most 60 characters."""
    try:
        words = repr(value)
    except (ValueError, RecursionError):  # Python writes no numbers of more than 4300 digits
        words = "something huge"
    return words if len(words) <= 60 else f"{words[:57]}..."


def say(console: "Console", text: str, style: str | None = None) -> None:
    """Prints a line as it is: brackets are no markup, and control characters do nothing."""
    console.print(
        printable(text), style=style, highlight=False, soft_wrap=True, markup=False, emoji=False
    )
