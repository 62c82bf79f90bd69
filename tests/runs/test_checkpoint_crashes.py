"""Checkpoints under kill -9 and power cuts: the newest or the one before, whole, at any point."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashes import INTERVAL, check_goes_on, check_whole, save
from power_loss import Disk, Operation, PowerCut, Recorder, crash_states

from sndqn.errors import RunFolderError
from sndqn.runs.checkpoint import CheckpointStore

MEMORY = Path("/dev/shm")
STEPS = [300, 400, 500]


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of syncs, and no disk to wait for."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


class Session:
    """A run whose operations are recorded, over processes that may be killed.

    Attributes:
        log: The operations.
        begun: Step of each save, and the length of the log then.
        returned: The same of the saves that returned.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.log: list[Operation] = []
        self.begun: list[tuple[int, int]] = []
        self.returned: list[tuple[int, int]] = []
        run.mkdir()

    def train(self, last: int, fatal: int | None = None, failing: int | None = None) -> None:
        """Opens the run in a new process and saves up to a step, or to its end."""
        store = CheckpointStore(self.run, Recorder(self.run, self.log, fatal, failing))
        try:
            store.clean()
            found = store.load_newest()
            for step in range((found.step if found else 200) + INTERVAL, last + 1, INTERVAL):
                self.begun.append((step, len(self.log)))
                try:
                    save(store, step)
                except RunFolderError as error:
                    if failing is None:
                        raise
                    # What is saved is safe, even if an older one could not be removed.
                    if "is saved, but" not in str(error):
                        continue
                self.returned.append((step, len(self.log)))
        except PowerCut:
            pass

    def states(self, after: int = 0) -> Iterator[tuple[Disk, int, int, int]]:
        """Gives each state after a power cut.

        Yields:
            The disk, what became of bytes that were not synced, the step that is safe, and the
            last one that may be there.
        """
        for done, disk, lost in crash_states(self.log):
            if done >= after:
                safe = max((step for step, n in self.returned if n <= done), default=0)
                last = max((step for step, n in self.begun if n <= done), default=0)
                yield disk, lost, safe, last


def whole_ones(run: Path) -> list[int]:
    """Opens a run, and again without its newest checkpoint until it has none; gives the steps.

    Nothing that looks like a checkpoint may be less than one.
    """
    steps = []
    store = CheckpointStore(run)
    while found := store.load_newest():
        check_whole(store, found)
        assert found.skipped == []
        steps.append(found.step)
        shutil.rmtree(store.checkpoints / f"step-{found.step:012d}")
    return steps


def check_states(session: Session, folder: Path, after: int = 0, thorough: int = 20) -> int:
    """Opens the run in each state, and in one of so many also cleans it and goes on."""
    number = 0
    for number, (disk, lost, safe, last) in enumerate(session.states(after), 1):
        run = folder / "after"
        run.mkdir()
        disk.write(run, lost)
        found = whole_ones(run)
        step = max(found, default=0)
        assert safe <= step <= last, f"{safe} was saved, {last} begun, and {step} is found"
        if number % thorough == 0:
            disk.write(run, lost)
            check_goes_on(run, safe, last)
        shutil.rmtree(run)
    return number


def test_kill_9_at_every_operation_leaves_the_newest_whole(quick: Path) -> None:
    script = Path(__file__).with_name("crashes.py")
    done = subprocess.run(
        [sys.executable, str(script), str(quick)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_a_power_cut_at_any_operation_loses_no_save_that_returned(quick: Path) -> None:
    session = Session(quick / "run")
    session.train(STEPS[-1])
    assert [step for step, _ in session.returned] == STEPS
    assert check_states(session, quick) > 400


def shares(every: int) -> list[object]:
    """Some of all starting points by default, and the rest with the slow tests."""
    slow = pytest.mark.slow
    return [pytest.param(n, every, marks=[slow] if n else []) for n in range(every)]


@pytest.mark.parametrize(("first", "every"), shares(24))
def test_a_power_cut_after_a_kill_loses_no_save_that_returned(
    quick: Path, first: int, every: int
) -> None:
    whole = Session(quick / "whole")
    whole.train(STEPS[-1])
    states = 0
    for fatal in range(first, len(whole.log), every):
        session = Session(quick / f"run-{fatal}")
        session.train(STEPS[-1], fatal=fatal)
        assert len(session.log) == fatal
        session.train(STEPS[-1] + INTERVAL)
        assert session.returned[-1][0] == STEPS[-1] + INTERVAL
        states += check_states(session, quick, after=fatal)
    assert states > 1000


@pytest.mark.parametrize(("first", "every"), shares(10))
def test_a_power_cut_after_a_sync_that_failed_loses_no_save_that_returned(
    quick: Path, first: int, every: int
) -> None:
    whole = Session(quick / "whole")
    whole.train(STEPS[-1])
    syncs = [n for n, operation in enumerate(whole.log) if operation.name.startswith("fsync")]
    states = 0
    for failing in syncs[first::every]:
        session = Session(quick / f"run-{failing}")
        session.train(STEPS[-1] + INTERVAL, failing=failing)
        check_no_second_sync(session.log)
        states += check_states(session, quick, after=failing)
    assert states > 400


def check_no_second_sync(log: list[Operation]) -> None:
    """Asserts that a file of which the sync failed was made anew before it was synced again."""
    failed: set[str] = set()
    for operation in log:
        if operation.name == "failed-fsync":
            failed.add(operation.path)
        elif operation.name == "open":
            failed.discard(operation.path)
        assert operation.name != "fsync" or operation.path not in failed


MISSING: dict[str, Callable[[Operation], bool]] = {
    "of files": lambda entry: entry.name == "fsync",
    "of manifests": lambda entry: entry.name == "fsync" and entry.path.endswith("manifest.json"),
    "of the run": lambda entry: entry.name == "fsync-dir" and entry.path == "",
    "of chunks": lambda entry: entry.name == "fsync-dir" and entry.path == "chunks",
    "of checkpoints": lambda entry: entry.name == "fsync-dir" and entry.path == "checkpoints",
    "of new folders": lambda entry: entry.name == "fsync-dir" and ".tmp-" in entry.path,
}


@pytest.mark.parametrize("name", MISSING)
def test_the_power_cuts_would_show_any_missing_sync(quick: Path, name: str) -> None:
    session = Session(quick / "run")
    session.train(STEPS[-1])
    session.log = [
        Operation("stat", entry.path) if MISSING[name](entry) else entry for entry in session.log
    ]
    with pytest.raises((AssertionError, RunFolderError)):
        check_states(session, quick)
