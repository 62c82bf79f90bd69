"""Making what a study is missing, wherever there is room for a run.

Whoever has a run's lock makes it, so any number of processes may work on one study, on machines
that share its disk too.
"""

import signal
import time
from collections import Counter
from contextlib import suppress
from typing import Protocol

from sndqn.errors import RunFolderError
from sndqn.runs.folder import RunFolder
from sndqn.study.board import Board
from sndqn.study.design import StudyRun
from sndqn.study.failures import Failure, note_failure, read_failure
from sndqn.study.folder import Study
from sndqn.training.signals import SIGNALS, StopSignals

IN_USE = 75
"""Exit status of a process whose run another one makes: EX_TEMPFAIL of sysexits.h."""

_MAX_DEATHS = 3
_SECONDS_BETWEEN_LOOKS = 0.2


class Place(Protocol):
    """Where runs are made, each in a process of its own."""

    def n_free(self) -> int:
        """Returns how many more runs there is room for."""

    def under_way(self) -> list[StudyRun]:
        """Returns the runs that were started here and have not been collected."""

    def start(self, study: Study, run: StudyRun) -> None:
        """Starts a process that makes a run, or brings it to its end."""

    def collect(self) -> list[tuple[StudyRun, int]]:
        """Returns the runs whose processes have ended since, with the exit status.

        A negative one is the signal that killed the process.
        """

    def stop(self) -> None:
        """Asks all processes to save their state and end, and waits until they have."""

    def kill(self) -> None:
        """Ends what is left of them, at once."""


class Work:
    """Makes what a study is missing.

    Args:
        study: The study.
        place: Where.
        board: Shows how it goes.
        waits: Whether it stays as long as other processes make runs, which it would take up if
            those were killed.
        turn: Which of the runs that can be made it begins with, counted from 0 and round again, so
            that processes that are started together do not all reach for the first.
    """

    def __init__(
        self, study: Study, place: Place, board: Board, waits: bool = True, turn: int = 0
    ) -> None:
        self.study, self.place, self.board, self.waits = study, place, board, waits
        self.turn = turn
        self.deaths: Counter[tuple[str, str]] = Counter()

    def do(self) -> dict[str, Failure]:
        """Makes runs until none is left to make.

        Returns:
            Why runs cannot go on, by name; those that failed before are among them.

        Raises:
            TrainingStopped: Someone asked to stop: all processes have ended, their state saved.
        """
        with StopSignals() as stop, self.board:
            try:
                while stop.requested is None and self._take_turn():
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
                if stop.requested is not None:
                    self.board.say_stopping(len(self.place.under_way()))
                    self.place.stop()
                stop.check()
            finally:
                self.place.kill()
        return self.board.failures

    def _take_turn(self) -> bool:
        """Looks after all processes and starts others; False when nothing is left to do."""
        for run, status in self.place.collect():
            self._note_end(run, status)
        n_free = self.place.n_free()
        if n_free > 0 or self.board.is_due():
            self.board.survey({run.name for run in self.place.under_way()})
            runs = self.board.startable
            first = self.turn % len(runs) if runs else 0
            for run in (runs[first:] + runs[:first])[: max(n_free, 0)]:
                self.turn = 0
                self.place.start(self.study, run)
                self.board.say_started(run)
        self.board.show()
        return bool(self.place.under_way()) or (self.waits and bool(self.board.elsewhere))

    def _note_end(self, run: StudyRun, status: int) -> None:
        """Notes how a process ended; what is neither finished nor failed will be startable."""
        folder = self.study.folder(run)
        signum = -status if status < 0 else status - 128
        if status == 0:
            self.board.say_done(run)
        elif status == IN_USE:
            return
        elif status < 0 or signum in SIGNALS:
            self._note_death(run, folder, signum)
        else:
            failure = read_failure(folder) or Failure(f"ended with status {status}", "")
            self.board.say_failed(run, failure)

    def _note_death(self, run: StudyRun, folder: RunFolder, signum: int) -> None:
        """Lets a run that was killed go on, unless it is killed again and again at one place."""
        place = max((path.name for path in folder.path.glob("checkpoints/step-*")), default="")
        self.deaths[run.name, place] += 1
        name = signal.Signals(signum).name
        if self.deaths[run.name, place] < _MAX_DEATHS:
            self.board.say_killed(run, name)
            return
        failure = Failure(
            f"killed by {name} {_MAX_DEATHS} times without reaching another checkpoint: too "
            "little memory, perhaps. Fewer --jobs, or a smaller --buffer-size, may help",
            "",
        )
        with suppress(RunFolderError):
            note_failure(folder, failure.message)
        self.board.say_failed(run, failure)
