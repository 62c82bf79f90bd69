"""A study on a Ray cluster: a task for each run, wherever its CPUs and share of a GPU are free.

The nodes share the study's disk, under one path. A task is a run's process, as on one machine; a
task whose node dies is made again, and goes on from the run's last checkpoint.
"""

import logging
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sndqn.errors import ConfigError, MissingExtraError
from sndqn.runs.folder import RunFolder
from sndqn.study.design import StudyRun
from sndqn.study.folder import Study

_SECONDS_TO_STOP = 120.0
_SECONDS_BETWEEN_LOOKS = 0.2


class RayCluster:
    """Makes runs as tasks of a Ray cluster.

    Args:
        address: Of the cluster, as `ray.init` takes it: "auto", or "10.0.0.1:6379".
        needs: Of a run: "num_cpus", and "num_gpus", which may be a fraction.
        n_jobs: Runs at a time; None for as many as the cluster has room for.
        code: Options that name code, `--import` and `--wrapper`, for the runs' processes.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: There is no cluster.
    """

    def __init__(
        self,
        address: str,
        needs: Mapping[str, float],
        n_jobs: int | None = None,
        code: Sequence[str] = (),
    ) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtraError('--ray: expected Ray: pip install "sndqn[ray]"') from None
        self.ray: Any = ray
        self.needs, self.n_jobs, self.code = dict(needs), n_jobs, list(code)
        self.tasks: dict[Any, StudyRun] = {}
        _check_reachable(address)
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"--ray {address}: expected a running cluster: {reason}") from None
        self._make: Any = self.ray.remote(max_retries=-1, **self.needs)(make_in_process)

    def n_free(self) -> int:
        """Returns how many more runs the cluster has room for, as it is now."""
        total = self.ray.cluster_resources()
        rooms = [
            int(total.get(name, 0) / needed)
            for name, needed in (("CPU", self.needs["num_cpus"]), ("GPU", self.needs["num_gpus"]))
            if needed
        ]
        return min([*rooms, *([self.n_jobs] if self.n_jobs else [])]) - len(self.tasks)

    def under_way(self) -> list[StudyRun]:
        """Returns the runs whose tasks have not been collected."""
        return list(self.tasks.values())

    def start(self, study: Study, run: StudyRun) -> None:
        """Hands a run's task to the cluster."""
        folder = study.folder(run).path.absolute()
        task = self._make.remote(
            str(study.path.absolute()), run.name, str(folder), run.settings["threads"], self.code
        )
        self.tasks[task] = run

    def collect(self) -> list[tuple[StudyRun, int]]:
        """Returns the runs whose tasks have ended since, with the exit status."""
        if not self.tasks:
            return []
        ready, _ = self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0)
        return [(self.tasks.pop(task), self._status(task)) for task in ready]

    def stop(self) -> None:
        """Asks all tasks to save their state and end, and waits until they have."""
        for task in self.tasks:
            self.ray.cancel(task)
        tasks = list(self.tasks)
        if tasks:
            self.ray.wait(tasks, num_returns=len(tasks), timeout=_SECONDS_TO_STOP)

    def kill(self) -> None:
        """Ends what is left, at once, and leaves the cluster."""
        if self.tasks:
            _, left = self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0)
            for task in left:
                self.ray.cancel(task, force=True)
        self.tasks = {}
        self.ray.shutdown()

    def _status(self, task: Any) -> int:
        """Returns the exit status of a task's process; 1 where the cluster could not make it."""
        try:
            return int(self.ray.get(task))
        except self.ray.exceptions.RayError:
            return 1


def _check_reachable(address: str) -> None:
    """Refuses an address at which nothing listens, for which Ray tries minutes long.

    Raises:
        ConfigError: Nothing does.
    """
    host, colon, port = address.rpartition(":")
    if not colon or "://" in address:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--ray {address}: expected a running cluster, found none there ({error}). Start one "
            "with `ray start --head`, and type the address that it prints"
        ) from None


def make_in_process(study: str, name: str, folder: str, threads: int, code: list[str]) -> int:
    """Makes a run in a process of this node, and returns its exit status: the body of a task.

    Cancelled, it has the process save its state and end.
    """
    from sndqn.study.pool import close_pipe, kill_session, start_run

    process = start_run(study, name, RunFolder.at(Path(folder)), threads, code)
    try:
        while process.poll() is None:  # Ray's way to cancel interrupts no wait
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return process.returncode
    except KeyboardInterrupt:
        with suppress(ProcessLookupError):
            process.terminate()
        return process.wait()
    finally:
        kill_session(process)
        close_pipe(process)
