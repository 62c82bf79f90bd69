"""Saves to interrupt, and a check of what is left; run as a script, kill -9 at every operation.

Imports nothing but the file layer, so that a fork costs a millisecond.
"""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from sndqn.files.storage import Storage
from sndqn.runs.checkpoint import Checkpoint, CheckpointStore
from sndqn.runs.manifest import ChunkRef

INTERVAL = 100


def files_of(step: int) -> dict[str, bytes]:
    """What a checkpoint of a step holds: some bytes, and a file of none."""
    return {
        "state.bin": random.Random(step).randbytes(700),
        "tail.bin": b"" if step % 200 else b"t",
    }


def chunks_of(step: int) -> dict[str, bytes]:
    """The last three intervals up to a step, as a ring of replay would hold them."""
    indices = range(max(0, step // INTERVAL - 3), step // INTERVAL)
    return {f"frames-{i:012d}": random.Random(-i).randbytes(40) * 9 for i in indices}


def save(store: CheckpointStore, step: int) -> Path:
    """Saves the checkpoint of a step."""
    refs = [store.put_chunk(name, data) for name, data in chunks_of(step).items()]
    return store.save(step, files_of(step), refs, {"half": step / 2})


def check_whole(store: CheckpointStore, found: Checkpoint) -> None:
    """Asserts that a checkpoint is that of its step, and has nothing of another."""
    assert found.files == files_of(found.step)
    assert {ref["name"]: store.get_chunk(ref) for ref in found.chunks} == chunks_of(found.step)
    assert found.info == {"half": found.step / 2}


def check_tidy(store: CheckpointStore) -> None:
    """Asserts that there are two checkpoints at most, their chunks, and nothing else."""
    folders = sorted(store.checkpoints.iterdir())
    assert len(folders) <= 2
    assert all(folder.name.startswith("step-") for folder in folders), folders
    named = {
        ref["file"]
        for folder in folders
        for ref in json.loads((folder / "manifest.json").read_text())["chunks"]
    }
    assert {path.name for path in store.chunks.folder.iterdir()} == named


def check_goes_on(run: Path, oldest: int, newest: int) -> None:
    """Opens a run after a crash, and asserts that it holds a whole checkpoint and can go on.

    Args:
        run: Its folder.
        oldest: Step of the last save that is safe; 0 if none is.
        newest: Step of the last save that may be there.
    """
    store = CheckpointStore(run)
    store.clean()
    found = store.load_newest()
    step = found.step if found else 0
    assert oldest <= step <= newest, f"found {step}, expected {oldest} to {newest}"
    if found:
        assert found.skipped == []
        check_whole(store, found)
    save(store, step + INTERVAL)
    check_tidy(store)
    after = CheckpointStore(run).load_newest()
    assert after is not None
    assert after.step == step + INTERVAL
    check_whole(store, after)


def in_fork(action: Callable[[], object]) -> int:
    """Does something in a child and gives the status it ends with."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def kill_everywhere(run: Path, steps: list[int]) -> int:
    """Kills a process at each operation of some saves, one after the other, and opens the run.

    Returns:
        The number of operations.
    """
    renamed, operations = _reference(run, steps)
    for number in range(1, operations + 1):
        shutil.rmtree(run)
        run.mkdir()

        def kill(n: int, _name: str, _path: Path, fatal: int = number) -> None:
            if n == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        status = in_fork(lambda hook=kill: _save_all(run, Storage(hook), steps))  # type: ignore[misc]
        assert os.WIFSIGNALED(status), f"operation {number}: ended with {status}"
        assert os.WTERMSIG(status) == signal.SIGKILL
        # A process that dies takes no bytes with it: what was renamed is there, and whole.
        newest = max((step for step, n in renamed.items() if n < number), default=0)
        check_goes_on(run, newest, newest)
    return operations


def _reference(run: Path, steps: list[int]) -> tuple[dict[int, int], int]:
    """Saves undisturbed: at which operation does the folder of each step appear, of how many?"""
    renamed: dict[int, int] = {}

    def note(n: int, name: str, path: Path) -> None:
        if name == "rename" and path.name.startswith(".tmp-step-"):
            renamed[int(path.name.split("-")[2])] = n

    storage = Storage(note)
    _save_all(run, storage, steps)
    return renamed, storage.operations


def _save_all(run: Path, storage: Storage, steps: list[int]) -> None:
    store = CheckpointStore(run, storage)
    store.clean()
    for step in steps:
        save(store, step)


def refs_of(run: Path, step: int) -> list[ChunkRef]:
    """The references in the manifest of a step."""
    manifest = run / "checkpoints" / f"step-{step:012d}" / "manifest.json"
    refs: list[ChunkRef] = json.loads(manifest.read_text())["chunks"]
    return refs


if __name__ == "__main__":
    assert "torch" not in sys.modules
    print(kill_everywhere(Path(sys.argv[1]), [300, 400, 500]))
