"""The processes of one machine: each run in one of its own, several at a time.

A pool that is killed takes its processes with it: each ends, its state saved, when the pipe to the
pool breaks.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sndqn.errors import RunFolderError
from sndqn.runs.folder import RunFolder
from sndqn.study.attended import PARENT
from sndqn.study.design import StudyRun
from sndqn.study.folder import Study

_SECONDS_BETWEEN_LOOKS = 0.05


@dataclass
class Job:
    """A run's process."""

    run: StudyRun
    process: "subprocess.Popen[bytes]"


class Pool:
    """Makes runs in processes of this machine.

    Args:
        n_jobs: Runs at a time.
        code: Options that name code, `--import` and `--wrapper`, for the runs' processes.
    """

    def __init__(self, n_jobs: int, code: Sequence[str] = ()) -> None:
        self.n_jobs, self.code = n_jobs, list(code)
        self.jobs: list[Job] = []

    def n_free(self) -> int:
        """Returns how many more runs there is room for."""
        return self.n_jobs - len(self.jobs)

    def under_way(self) -> list[StudyRun]:
        """Returns the runs whose processes have not been collected."""
        return [job.run for job in self.jobs]

    def start(self, study: Study, run: StudyRun) -> None:
        """Starts a run's process."""
        folder = RunFolder.at(study.folder(run).path)
        threads = int(run.settings["threads"])
        self.jobs.append(Job(run, start_run(str(study.path), run.name, folder, threads, self.code)))

    def collect(self) -> list[tuple[StudyRun, int]]:
        """Returns the runs whose processes have ended since, with the exit status."""
        ended = [job for job in self.jobs if job.process.poll() is not None]
        self.jobs = [job for job in self.jobs if job not in ended]
        for job in ended:
            close_pipe(job.process)
        return [(job.run, job.process.returncode) for job in ended]

    def stop(self) -> None:
        """Asks all processes to save their state and end, and waits until they have."""
        for job in self.jobs:
            job.process.terminate()
        while any(job.process.poll() is None for job in self.jobs):
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def kill(self) -> None:
        """Ends what is left, at once: nothing is, unless someone was in a hurry."""
        for job in self.jobs:
            kill_session(job.process)
            close_pipe(job.process)
        self.jobs = []


def n_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def code_options(imports: Sequence[str], wrappers: Sequence[str]) -> list[str]:
    """Returns the options that name a run's code, for its process."""
    options = [word for module in imports for word in ("--import", module)]
    return options + [word for name in wrappers for word in ("--wrapper", name)]


def start_run(
    study: str, name: str, folder: RunFolder, threads: int, code: Sequence[str]
) -> "subprocess.Popen[bytes]":
    """Starts the process that makes a run: it ends when this one does.

    Args:
        study: The study's folder.
        name: The run's name.
        folder: The run's folder, for what the process prints.
        threads: Threads of its tensor operations; 0 leaves that to torch.
        code: Options that name code.
    """
    command = [sys.executable, "-m", "sndqn.cli", "sweep", study, "--run", name, *code]
    environment = {**os.environ, PARENT: "1", "PYTHONUNBUFFERED": "1"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    try:
        output = (folder.path / "output.txt").open("ab")
    except OSError as error:
        raise RunFolderError(f"cannot write {folder.path}/output.txt: {error.strerror}") from None
    with output:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            # Ctrl-C reaches all of a terminal's processes, and a training that is stopped twice
            # ends without saving.
            start_new_session=True,
        )


def kill_session(process: "subprocess.Popen[bytes]") -> None:
    """Kills a run's process and all it has started, and waits for its end."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
    process.wait()


def close_pipe(process: "subprocess.Popen[bytes]") -> None:
    """Closes the pipe to a run's process that has ended."""
    if process.stdin is not None:
        process.stdin.close()
