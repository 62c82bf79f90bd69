"""What a person sees of a study that is being made: a table on a terminal, else plain lines."""

import time
from collections.abc import Collection
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sndqn.console import clock, say
from sndqn.errors import printable
from sndqn.study.design import StudyRun
from sndqn.study.failures import Failure, read_failure
from sndqn.study.folder import Study
from sndqn.study.progress import Progress, read_progress

_SECONDS_BETWEEN_SURVEYS = 2.0
_SECONDS_BETWEEN_LINES = 60.0
_MAX_ROWS = 20


class Board:
    """Knows how far each run of a study is, and shows it.

    Args:
        study: The study.
        console: Where to.

    Attributes:
        startable: Runs that nothing makes and that can go on, in their order.
        elsewhere: Runs that other processes make.
        failures: Why runs cannot go on, by name.
    """

    def __init__(self, study: Study, console: Console) -> None:
        self.study, self.console = study, console
        self.done: set[str] = set()
        self.failures: dict[str, Failure] = {}
        self.startable: list[StudyRun] = []
        self.elsewhere: list[StudyRun] = []
        self.own: list[StudyRun] = []
        self._progress: dict[str, Progress] = {}
        # Steps per second of each game and arm, as last seen.
        self._rates: dict[tuple[str, str], float] = {}
        self._surveyed_at = float("-inf")
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
        self._live: Live | None = None

    def __enter__(self) -> "Board":
        """Begins."""
        if self.console.is_terminal and not self.console.quiet:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Gives the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def is_due(self) -> bool:
        """Returns whether it is time for the next survey."""
        return time.monotonic() - self._surveyed_at > _SECONDS_BETWEEN_SURVEYS

    def survey(self, own: Collection[str]) -> None:
        """Looks how far each run is that is not finished.

        Args:
            own: Names of those that this process has under way.
        """
        self._surveyed_at = time.monotonic()
        self.startable, self.elsewhere, self.own = [], [], []
        for run in self.study.runs:
            if run.name in self.done or run.name in self.failures:
                continue
            status = "running" if run.name in own else self.study.status(run)
            if status == "done":
                self.done.add(run.name)
            elif status == "failed":
                failure = read_failure(self.study.folder(run))
                self.failures[run.name] = failure or Failure("for a reason unknown", "")
            elif status == "running":
                (self.own if run.name in own else self.elsewhere).append(run)
            else:
                self.startable.append(run)
            if status in ("running", "interrupted"):
                self._read(run)

    def show(self) -> None:
        """Shows the newest survey, if it is time to."""
        if self._live is not None:
            self._live.update(self.table(), refresh=True)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            say(self.console, self.summary())

    def summary(self) -> str:
        """Says how far the study is, in a line."""
        parts = [f"{len(self.done)} of {len(self.study.runs)} runs done"]
        if running := len(self.own) + len(self.elsewhere):
            parts.append(f"{running} running")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        under_way = [self._progress.get(run.name) for run in self.own + self.elsewhere]
        if rate := sum(each.rate or 0 for each in under_way if each is not None):
            parts.append(f"{rate:,.0f} steps/s")
        left = self.seconds_left()
        if left is not None:
            parts.append(f"{clock(left)} left")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """Guesses how long the study takes, evaluations apart; None before a rate is known.

        A run is taken to be as fast as the last one of its game and arm, one of an unknown kind as
        the mean of the others.
        """
        if not self._rates or not self.startable + self.own + self.elsewhere:
            return None
        mean = sum(self._rates.values()) / len(self._rates)
        seconds = 0.0
        for run in self.startable + self.own + self.elsewhere:
            step = self._progress.get(run.name, Progress()).step
            rate = self._rates.get((run.env, run.arm), mean)
            seconds += max(run.settings["total_timesteps"] - step, 0) / rate
        return seconds / max(len(self.own) + len(self.elsewhere), 1)

    def table(self) -> Table:
        """Draws what is under way and what failed."""
        table = Table(box=None, pad_edge=False, caption=self.summary(), caption_justify="left")
        table.add_column("run", no_wrap=True, overflow="ellipsis")
        for name in ("steps", "steps/s", "return"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("left", justify="right", no_wrap=True)
        rows = [self._row(run, "") for run in self.own]
        rows += [self._row(run, "elsewhere, ") for run in self.elsewhere]
        for row in rows[:_MAX_ROWS]:
            table.add_row(*row)
        if len(rows) > _MAX_ROWS:
            table.add_row(f"and {len(rows) - _MAX_ROWS} more")
        for name, failure in list(self.failures.items())[-5:]:
            reason = printable(failure.message, 1)
            table.add_row(Text(name, style="red"), Text(f"failed: {reason}"[:60], style="red"))
        return table

    def _row(self, run: StudyRun, where: str) -> list[str]:
        progress = self._progress.get(run.name, Progress())
        total = run.settings["total_timesteps"]
        rate = progress.rate
        left = f"{where}{clock(max(total - progress.step, 0) / rate)}" if rate else f"{where}-"
        if progress.step >= total:
            left = f"{where}evaluating"
        shown = "-" if progress.mean_return is None else f"{progress.mean_return:.1f}"
        short = run.name.rpartition("-")[0]
        return [short, f"{progress.step:,}/{total:,}", f"{rate:,.0f}" if rate else "-", shown, left]

    def _read(self, run: StudyRun) -> Progress:
        progress = self._progress[run.name] = read_progress(self.study.folder(run))
        if progress.rate:
            self._rates[run.env, run.arm] = progress.rate
        return progress

    def say_started(self, run: StudyRun) -> None:
        """Says that a run begins, or goes on."""
        step = read_progress(self.study.folder(run)).step
        self._say(
            f"{run.name}: {'begins' if not step else f'goes on, {step:,} steps were recorded'}"
        )

    def say_done(self, run: StudyRun) -> None:
        """Says that a run is finished."""
        self.done.add(run.name)
        progress = self._read(run)
        shown = "" if progress.mean_return is None else f", mean return {progress.mean_return:.1f}"
        rate = f", {progress.rate:,.0f} steps/s" if progress.rate else ""
        n_done = f"{len(self.done)} of {len(self.study.runs)}"
        self._say(f"{run.name}: done{shown}{rate} ({n_done})", style="green")

    def say_failed(self, run: StudyRun, failure: Failure) -> None:
        """Says that a run failed."""
        self.failures[run.name] = failure
        self._say(f"{run.name}: failed: {printable(failure.message, 1)}", style="red")

    def say_killed(self, run: StudyRun, name: str) -> None:
        """Says that a run's process was killed."""
        self._say(f"{run.name}: its process was ended by {name}; it will go on", style="yellow")

    def say_stopping(self, n_jobs: int) -> None:
        """Says that all is being saved."""
        runs = "1 run" if n_jobs == 1 else f"{n_jobs} runs"
        self._say(f"Stopping: {runs} being saved; Ctrl-C again ends them at once", style="yellow")

    def _say(self, text: str, **kwargs: Any) -> None:
        say(self.console, text, **kwargs)
