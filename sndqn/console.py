"""What people read while a command runs: plain lines, and signs of life."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from sndqn.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_UPDATES = 0.2


def say(console: "Console", text: str, style: str | None = None) -> None:
    """Prints a line as it is: brackets are no markup, and control characters do nothing."""
    console.print(
        printable(text), style=style, highlight=False, soft_wrap=True, markup=False, emoji=False
    )


class Pulse:
    """Shows how far something is: in one changing line on a terminal, else a line every 10 s.

    Args:
        console: Where to.
        in_lines: Lines on a terminal too, such as below a progress bar, which owns it.
    """

    def __init__(self, console: "Console", in_lines: bool = False) -> None:
        self.console = console
        self.status = None if in_lines or not console.is_terminal else console.status("")
        self.seconds = _SECONDS_BETWEEN_UPDATES if self.status else _SECONDS_BETWEEN_LINES
        self.next_at = 0.0

    def __enter__(self) -> "Pulse":
        """Begins; the first sign comes after a while."""
        self.next_at = time.monotonic() + self.seconds
        if self.status is not None:
            self.status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Gives the terminal back."""
        if self.status is not None:
            self.status.stop()

    def show(self, words: Callable[[], str]) -> None:
        """Shows words, if it is time to; else does next to nothing."""
        now = time.monotonic()
        if now < self.next_at:
            return
        self.next_at = now + self.seconds
        if self.status is not None:
            self.status.update(words())
        else:
            self.console.print(words(), highlight=False, soft_wrap=True)

    def of_episodes(self, episodes: int, label: str = "") -> Callable[[int, int], None]:
        """Makes the function that an evaluation calls at each step, see `evaluate`.

        Args:
            episodes: Of the whole evaluation.
            label: What is said first.
        """

        def on_step(episode: int, steps: int) -> None:
            self.show(lambda: f"{label}episode {episode + 1}/{episodes}: {steps:,} steps so far")

        return on_step
