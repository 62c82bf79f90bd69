"""Checkpoints: what comes back is what was saved; what goes is what nobody needs."""

import errno
import json
import os
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from crashes import check_tidy, check_whole, refs_of, save

from sndqn.errors import RunFolderError
from sndqn.files.storage import Storage
from sndqn.runs.checkpoint import CheckpointStore


def names(store: CheckpointStore) -> list[str]:
    return sorted(path.name for path in store.checkpoints.iterdir())


def chunk_names(store: CheckpointStore) -> list[str]:
    return sorted(path.name[:-11] for path in store.chunks.folder.iterdir())


def test_the_file_layer_needs_neither_torch_nor_anything_that_does() -> None:
    code = (
        "import sndqn.runs.checkpoint, sndqn.runs.lock, sys;"
        "print(*{name.split('.')[0] for name in sys.modules} & {'torch', 'numpy', 'gymnasium'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_run_without_checkpoints_has_none_and_gets_no_folders(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.clean()
    assert store.load_newest() is None
    assert list(tmp_path.iterdir()) == []


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    ref = store.put_chunk("frames-0", b"a" * 10_000)
    info = {"a": [1, 2.5, None, True, "é\ud800"], "b": {"c": -0.0, "d": 1e-300}}
    path = store.save(7, {"net.safetensors": b"\x00\xff", "empty": b""}, [ref], info)
    assert path == tmp_path / "checkpoints" / "step-000000000007"
    found = CheckpointStore(tmp_path).load_newest()
    assert found is not None
    assert (found.step, found.skipped, found.chunks) == (7, [], [ref])
    assert found.files == {"net.safetensors": b"\x00\xff", "empty": b""}
    assert repr(found.info) == repr(info)
    assert CheckpointStore(tmp_path).get_chunk(found.chunks[0]) == b"a" * 10_000
    assert json.loads(json.dumps(ref)) == ref


def test_the_last_two_are_kept_and_no_more_chunks_than_they_name(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in range(100, 801, 100):
        save(store, step)
        check_tidy(store)
    assert names(store) == ["step-000000000700", "step-000000000800"]
    assert chunk_names(store) == [f"frames-{i:012d}" for i in (4, 5, 6, 7)]


def test_keeping_one_or_three(tmp_path: Path) -> None:
    for keep in (1, 3):
        (tmp_path / str(keep)).mkdir()
        store = CheckpointStore(tmp_path / str(keep), keep=keep)
        for step in (1, 2, 3, 4):
            store.save(step, {}, [], {})
        assert names(store) == [f"step-{step:012d}" for step in range(5 - keep, 5)]
    with pytest.raises(ValueError, match="keep: expected 1 or more, found 0"):
        CheckpointStore(tmp_path, keep=0)


def test_a_chunk_is_written_once(tmp_path: Path) -> None:
    written = []
    storage = Storage(lambda _, name, path: written.append(path.name) if name == "open" else None)
    store = CheckpointStore(tmp_path, storage)
    first = store.put_chunk("a", b"1" * 100)
    assert store.put_chunk("a", b"1" * 100) == first
    assert len(written) == 1
    assert store.put_chunk("a", b"2" * 100) != first
    assert store.put_chunk("b", b"1" * 100)["sha256"] == first["sha256"]
    assert len(written) == 3


def test_a_damaged_chunk_is_written_anew(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    ref = store.put_chunk("a", b"1" * 100)
    path = store.chunks.folder / ref["file"]
    for damage in (b"", path.read_bytes()[::-1]):
        path.write_bytes(damage)
        assert store.put_chunk("a", b"1" * 100) == ref
        assert store.get_chunk(ref) == b"1" * 100


def test_what_an_interrupted_write_left_of_a_chunk_is_no_hindrance(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    ref = store.put_chunk("a", b"1" * 100)
    path = store.chunks.folder / ref["file"]
    path.rename(path.with_name(f".tmp-{path.name}"))
    assert store.put_chunk("a", b"1" * 100) == ref
    assert [found.name for found in store.chunks.folder.iterdir()] == [path.name]


def test_a_new_chunk_stays_until_a_save_and_then_only_if_it_is_named(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.put_chunk("a", b"a")
    ref = store.put_chunk("b", b"b")
    store.clean()
    assert chunk_names(store) == ["a", "b"]
    store.save(1, {}, [ref], {})
    assert chunk_names(store) == ["b"]
    store.put_chunk("c", b"c")
    CheckpointStore(tmp_path).clean()
    assert chunk_names(store) == ["b"]


def test_a_checkpoint_of_which_a_chunk_is_gone_is_not_saved(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    save(store, 100)
    ref = store.put_chunk("a", b"a")
    (store.chunks.folder / ref["file"]).unlink()
    with pytest.raises(RunFolderError, match=r"cannot read .*a-\w{8}\.z: No such file"):
        store.save(200, {}, [ref], {})
    assert names(store) == ["step-000000000100"]


def test_a_second_save_of_a_step_replaces_the_first_only_when_it_is_safe(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look(_number: int, name: str, path: Path) -> None:
        if name == "rename" and path.name.startswith("step-"):
            seen.append(names(store))

    store = CheckpointStore(tmp_path, Storage(look))
    for step, content in ((1, b"a"), (2, b"b"), (2, b"c"), (2, b"d")):
        store.save(step, {"f": content}, [], {})
        found = CheckpointStore(tmp_path).load_newest()
        assert found is not None
        assert (found.step, found.files) == (step, {"f": content})
    assert names(store) == ["step-000000000001", "step-000000000002-3"]
    assert seen[-1] == ["step-000000000001", "step-000000000002-2", "step-000000000002-3"]


def test_a_run_that_is_further_is_not_overwritten(tmp_path: Path) -> None:
    save(CheckpointStore(tmp_path), 500)
    store = CheckpointStore(tmp_path)
    with pytest.raises(RunFolderError, match="none of a step after 100, found one of 500: resume"):
        save(store, 100)
    assert names(store) == ["step-000000000500"]


def test_damaged_ones_that_were_passed_over_go_with_the_next_save(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (100, 200):
        save(store, step)
    (store.checkpoints / "step-000000000200" / "state.bin").unlink()
    store = CheckpointStore(tmp_path)
    found = store.load_newest()
    assert found is not None
    assert found.step == 100
    (reason,) = found.skipped
    assert reason.startswith("step-000000000200: cannot read ")
    save(store, 150)
    assert names(store) == ["step-000000000100", "step-000000000150"]
    check_tidy(store)


def test_the_step_of_a_damaged_one_can_be_saved_again(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (100, 200):
        save(store, step)
    (store.checkpoints / "step-000000000200" / "manifest.json").write_bytes(b"")
    store = CheckpointStore(tmp_path)
    store.clean()
    assert store.load_newest() is not None
    save(store, 200)
    assert names(store) == ["step-000000000100", "step-000000000200-2"]
    found = CheckpointStore(tmp_path).load_newest()
    assert found is not None
    check_whole(store, found)
    check_tidy(store)


def test_a_new_one_is_not_taken_for_a_damaged_one_that_somebody_removed(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (100, 200):
        save(store, step)
    (store.checkpoints / "step-000000000200" / "manifest.json").write_bytes(b"")
    store.load_newest()
    shutil.rmtree(store.checkpoints / "step-000000000200")
    save(store, 200)
    assert names(store) == ["step-000000000100", "step-000000000200"]


def test_while_a_manifest_cannot_be_read_no_chunk_goes(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (100, 200):
        save(store, step)
    before = chunk_names(store)
    (store.checkpoints / "step-000000000200" / "manifest.json").write_bytes(b"{}")
    (store.checkpoints / ".tmp-step-000000000300-1").mkdir()
    CheckpointStore(tmp_path).clean()
    assert chunk_names(store) == before
    assert names(store) == ["step-000000000100", "step-000000000200"]


def test_cleaning_leaves_what_it_does_not_know(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    save(store, 100)
    strangers = [store.checkpoints / "notes.txt", store.chunks.folder / "copy of a chunk.z"]
    for path in strangers:
        path.write_bytes(b"mine")
    leftovers = [store.checkpoints / ".del-step-000000000050-1", store.chunks.folder / ".tmp-x.z"]
    leftovers[0].mkdir()
    (leftovers[0] / "manifest.json").write_bytes(b"")
    leftovers[1].write_bytes(b"")
    CheckpointStore(tmp_path).clean()
    assert all(path.exists() for path in strangers)
    assert not any(path.exists() for path in leftovers)


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    save(CheckpointStore(tmp_path), 100)
    (tmp_path / "checkpoints" / ".tmp-step-000000000200-1").mkdir()
    done: set[str] = set()
    CheckpointStore(tmp_path, Storage(lambda _, name, __: done.add(name))).load_newest()
    assert done == {"list", "stat", "read"}


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../f", "a/b", "A", ".f", "-f", "f\n", "f g", "é", "f" * 65]
)
def test_only_plain_names_are_taken(tmp_path: Path, name: str) -> None:
    store = CheckpointStore(tmp_path)
    with pytest.raises(RunFolderError, match="expected a name of at most 64 small letters"):
        store.save(1, {name: b""}, [], {})
    with pytest.raises(RunFolderError, match="expected a name of at most 64 small letters"):
        store.put_chunk(name, b"")
    assert list(tmp_path.rglob("*.*")) == []


@pytest.mark.parametrize(
    "info",
    [{1: 2}, {"a": (1,)}, {"a": float("nan")}, {"a": b""}, {"a": object()}, {"a": {None: 1}}],
)
def test_info_that_would_not_come_back_as_it_is_is_refused(
    tmp_path: Path, info: dict[Any, Any]
) -> None:
    with pytest.raises(RunFolderError, match="info: expected"):
        CheckpointStore(tmp_path).save(1, {}, [], info)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("step", "files", "info", "reason"),
    [
        (-1, {}, {}, "a step from 0"),
        (10**12, {}, {}, "a step from 0"),
        (True, {}, {}, "a step from 0"),
        (1, {"manifest.json": b""}, {}, "other than manifest.json"),
        (1, {}, {"a": "x" * 1024**2}, "at most 1048576 bytes"),
        (1, {}, {"a": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}, "nested at most 16 deep"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(
    tmp_path: Path, step: int, files: dict[str, bytes], info: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RunFolderError, match=reason):
        CheckpointStore(tmp_path).save(step, files, [], info)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [1, 2])
def test_an_error_at_any_operation_leaves_the_earlier_ones_and_the_next_save_mends_all(
    tmp_path: Path, keep: int
) -> None:
    for number in count(1):
        run = tmp_path / str(number)
        run.mkdir()
        for step in (200, 300, 400):
            save(CheckpointStore(run, keep=keep), step)
        if not fails_at(number, run, keep):
            break
    assert number > 50


def fails_at(number: int, run: Path, keep: int) -> bool:
    """Lets the operation of a number fail in a save; gives False when there are not so many."""
    armed, reason = True, ""

    def fail(n: int, _name: str, _path: Path) -> None:
        if armed and n == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = CheckpointStore(run, Storage(fail), keep)
    try:
        save(store, 500)
    except RunFolderError as error:
        reason = str(error)
    armed, failed = False, store.storage.operations >= number
    # Reading anew what cannot be read, for one, needs no error.
    assert not reason or str(run) in reason
    safe = 400 if reason and "is saved, but" not in reason else 500
    found = CheckpointStore(run, keep=keep).load_newest()
    assert found is not None
    assert (found.step, found.skipped) == (safe, [])
    check_whole(store, found)
    assert safe == 500 or not [*run.rglob(".tmp-*"), *run.rglob(".del-*")]
    save(store, 600)
    check_tidy(store)
    after = CheckpointStore(run).load_newest()
    assert after is not None
    assert after.step == 600
    check_whole(store, after)
    return failed


SMALL_DISK = """
import sys
from pathlib import Path
from crashes import check_whole, save
from sndqn.errors import RunFolderError
from sndqn.runs.checkpoint import CheckpointStore
run = Path(sys.argv[1])
store = CheckpointStore(run)
save(store, 100)
save(store, 200)
for name, big in (("state.bin", bytes(2**20)),) * 3:
    try:
        store.save(300, {name: big}, [], {})
    except RunFolderError as error:
        print(error)
found = CheckpointStore(run).load_newest()
assert found.step == 200 and found.skipped == []
check_whole(store, found)
assert sorted(path.name[-3:] for path in store.checkpoints.iterdir()) == ["100", "200"]
save(store, 300)
assert CheckpointStore(run).load_newest().step == 300
"""


def test_a_full_disk_costs_one_save_and_no_checkpoint(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=512k none {tmp_path} && exec "
    command = ["unshare", "-rm", "sh", "-c", mount + '"$@"', "sh"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a user namespace, to mount a small disk")
    done = subprocess.run(
        [*command, sys.executable, "-c", SMALL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith(f"cannot write {tmp_path}/checkpoints/.tmp-step-000000000300-1/")
        assert "(1048576 bytes): No space left on device. Free at least as much" in line


def test_references_can_go_from_a_manifest_to_the_next_save(tmp_path: Path) -> None:
    save(CheckpointStore(tmp_path), 300)
    refs = refs_of(tmp_path, 300)
    store = CheckpointStore(tmp_path)
    store.clean()
    store.save(400, {}, refs[1:], {})
    found = CheckpointStore(tmp_path).load_newest()
    assert found is not None
    assert found.chunks == refs[1:]
