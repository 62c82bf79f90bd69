"""What people read while a command runs: plain lines, and signs of life."""

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

from sndqn.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

Thing = TypeVar("Thing")

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_UPDATES = 0.2


def say(console: "Console", text: str, style: str | None = None) -> None:
    """Prints a line as it is: brackets are no markup, and control characters do nothing."""
    console.print(
        printable(text), style=style, highlight=False, soft_wrap=True, markup=False, emoji=False
    )


class Bar:
    """Shows how far something is: a bar on a terminal, else a line every 10 s.

    Args:
        console: Where to.
        label: What is said first.
        in_lines: Lines on a terminal too, such as below another bar, which owns it.
    """

    def __init__(self, console: "Console", label: str = "", in_lines: bool = False) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.console, self.label = console, label
        self.in_lines = in_lines or not console.is_terminal
        self.seconds = _SECONDS_BETWEEN_LINES if self.in_lines else _SECONDS_BETWEEN_UPDATES
        self.progress = Progress(
            TextColumn(f"{label}{{task.description}}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[words]}", markup=False),
            console=console,
            disable=self.in_lines,
            transient=True,
        )
        self.task = self.progress.add_task("", total=1.0, words="")
        self.next_at = 0.0

    def __enter__(self) -> "Bar":
        """Begins; the first sign comes after a while."""
        self.next_at = time.monotonic() + self.seconds
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Returns the terminal back."""
        self.progress.stop()

    def show(self, state: Callable[[], tuple[float, str]]) -> None:
        """Shows what `state` returns, the share that is done and words, if it is time to."""
        now = time.monotonic()
        if now < self.next_at:
            return
        self.next_at = now + self.seconds
        share, words = state()
        if self.in_lines:
            self.console.print(f"{self.label}{words}", highlight=False, soft_wrap=True)
        else:
            self.progress.update(self.task, completed=share, words=words)

    def over(self, things: Iterable[Thing], total: int, name: str) -> Iterator[Thing]:
        """Yields things, and shows how many there were and how fast they come.

        Args:
            things: What is gone through.
            total: How many there are.
            name: Of several: "frames".
        """
        begun = time.monotonic()
        for number, thing in enumerate(things):
            self.show(lambda number=number: _pace(number, total, name, begun))  # type: ignore[misc]
            yield thing


def _pace(number: int, total: int, name: str, begun: float) -> tuple[float, str]:
    rate = number / max(time.monotonic() - begun, 1e-9)
    left = (total - number) / max(rate, 1e-9)
    words = f"{number:,}/{total:,} {name}, {rate:,.0f} {name}/s, {clock(left)} left"
    return number / total, words


def clock(seconds: float) -> str:
    """Returns a duration as minutes and seconds, or hours, minutes and seconds: "1:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def roughly(seconds: float) -> str:
    """Returns a duration in words, no more exact than an estimate is: "1.5 hours"."""
    if seconds < 90:
        return "a minute" if seconds > 45 else "half a minute"
    minutes = seconds / 60
    if minutes < 55:
        return f"{round(minutes) if minutes < 10 else 5 * round(minutes / 5)} minutes"
    hours = minutes / 60
    if hours < 36:
        rounded = round(2 * hours) / 2 if hours < 10 else round(hours)
        return "an hour" if rounded == 1 else f"{rounded:g} hours"
    return f"{round(hours / 24)} days" if hours > 72 else f"{round(hours / 12) / 2:g} days"


class Played(Protocol):
    """An episode that is over."""

    @property
    def length(self) -> int:
        """Number of its steps."""
        ...


class EpisodeCount:
    """Follows the episodes of an evaluation in a bar: `on_step` and `on_episode` for `evaluate`.

    The time left is a guess: of the episodes that are not over, each is taken to be as long as the
    mean of the others. As long as none is over, it is said only where a limit is known, as a most.

    Args:
        bar: Where to.
        episodes: Of the whole evaluation.
        limit: Steps after which an episode is cut; None where that is unknown.

    Attributes:
        done: Episodes that are over.
        steps: Steps so far, of all episodes.
    """

    def __init__(self, bar: Bar, episodes: int, limit: int | None = None) -> None:
        self.bar, self.episodes, self.limit = bar, episodes, limit
        self.done = self.steps = 0
        self._steps_of_done = 0
        self._begun = time.monotonic()

    def on_step(self, episode: int, steps: int) -> None:
        """Counts a step."""
        self.steps += 1
        self.bar.show(self._state)

    def on_episode(self, episode: int, played: Played) -> None:
        """Counts an episode that is over."""
        self.done += 1
        self._steps_of_done += played.length

    def _state(self) -> tuple[float, str]:
        rate = self.steps / max(time.monotonic() - self._begun, 1e-9)
        words = f"{self.done}/{self.episodes} episodes, {self.steps:,} steps, {rate:,.0f} steps/s"
        if not self.done and self.limit is None:
            return 0.0, words
        length = self._steps_of_done / self.done if self.done else self.limit or 0
        total = max(length * self.episodes, self.steps)
        most = "" if self.done else "at most "
        left = clock((total - self.steps) / max(rate, 1e-9))
        return self.steps / max(total, 1), f"{words}, {most}{left} left"
