"""The workers of one machine: each run in a process of its own, several at a time.

Whoever has a run's lock makes it, so any number of pools may work on one study, on machines that
share its disk too. A pool that is killed takes its processes with it: each ends, its state saved,
when the pipe to the pool breaks.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sndqn.errors import RunFolderError
from sndqn.runs.folder import RunFolder
from sndqn.study.attended import PARENT
from sndqn.study.board import Board
from sndqn.study.design import StudyRun
from sndqn.study.failures import Failure, note_failure, read_failure
from sndqn.study.folder import Study
from sndqn.training.signals import SIGNALS, StopSignals

IN_USE = 75
"""Exit status of a process whose run another one makes: EX_TEMPFAIL of sysexits.h."""

_MAX_DEATHS = 3
_SECONDS_BETWEEN_LOOKS = 0.2


@dataclass
class Job:
    """A run's process."""

    run: StudyRun
    process: "subprocess.Popen[bytes]"


class Pool:
    """Makes what a study is missing.

    Args:
        study: The study.
        jobs: Runs at a time.
        board: Shows how it goes.
        code: Options that name code, `--import` and `--wrapper`, for the runs' processes.
        waits: Whether it stays as long as other processes make runs, which it would take up if
            those were killed.
    """

    def __init__(
        self,
        study: Study,
        jobs: int,
        board: Board,
        code: Sequence[str] = (),
        waits: bool = True,
    ) -> None:
        self.study, self.n_jobs, self.board = study, jobs, board
        self.code, self.waits = list(code), waits
        self.jobs: list[Job] = []
        self.deaths: Counter[tuple[str, str]] = Counter()

    def work(self) -> dict[str, Failure]:
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
                    self._stop()
                stop.check()
            finally:
                self._kill()
        return self.board.failures

    def _take_turn(self) -> bool:
        """Looks after all processes and starts others; False when nothing is left to do."""
        for job in [job for job in self.jobs if job.process.poll() is not None]:
            self.jobs.remove(job)
            self._note_end(job)
        own = {job.run.name for job in self.jobs}
        if len(own) < self.n_jobs or self.board.is_due():
            self.board.survey(own)
            for run in self.board.startable[: self.n_jobs - len(own)]:
                self.jobs.append(self._start(run))
        self.board.show()
        return bool(self.jobs) or (self.waits and bool(self.board.elsewhere))

    def _start(self, run: StudyRun) -> Job:
        folder = RunFolder.at(self.study.folder(run).path)
        command = [sys.executable, "-m", "sndqn.cli", "sweep", str(self.study.path)]
        command += ["--run", run.name, *self.code]
        environment = {**os.environ, PARENT: "1", "PYTHONUNBUFFERED": "1"}
        if run.settings["threads"]:
            environment["OMP_NUM_THREADS"] = str(run.settings["threads"])
        with _opened(folder, "output.txt") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # Ctrl-C reaches all of a terminal's processes, and a training that is stopped
                # twice ends without saving.
                start_new_session=True,
            )
        self.board.say_started(run)
        return Job(run, process)

    def _note_end(self, job: Job) -> None:
        """Notes how a process ended; what is neither finished nor failed will be startable."""
        _close_pipe(job)
        run, status = job.run, job.process.returncode
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

    def _stop(self) -> None:
        """Asks all processes to end, and waits until they have."""
        self.board.say_stopping(len(self.jobs))
        self._to_all(lambda process: process.send_signal(signal.SIGTERM))
        while any(job.process.poll() is None for job in self.jobs):
            time.sleep(_SECONDS_BETWEEN_LOOKS / 4)

    def _kill(self) -> None:
        """Ends what is left, at once: nothing is, unless someone was in a hurry."""
        self._to_all(_kill_session)
        for job in self.jobs:
            job.process.wait()
            _close_pipe(job)
        self.jobs = []

    def _to_all(self, act: Callable[["subprocess.Popen[bytes]"], object]) -> None:
        for job in self.jobs:
            if job.process.poll() is None:
                act(job.process)


def _close_pipe(job: Job) -> None:
    if job.process.stdin is not None:
        job.process.stdin.close()


def _kill_session(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _opened(folder: RunFolder, name: str) -> Any:
    try:
        return (folder.path / name).open("ab")
    except OSError as error:
        raise RunFolderError(f"cannot write {folder.path / name}: {error.strerror}") from None
