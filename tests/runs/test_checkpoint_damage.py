"""Damaged and forged checkpoints: never taken, always named, and the one before is found."""

import hashlib
import json
import os
import random
import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crashes import check_whole, refs_of, save

from sndqn.errors import RunFolderError
from sndqn.files.storage import MAX_BYTES, Storage
from sndqn.runs.checkpoint import CheckpointStore
from sndqn.runs.manifest import MAX_MANIFEST_BYTES, ChunkRef, Manifest

OLD, NEW = "step-000000000400", "step-000000000500"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two checkpoints that share two chunks of three."""
    path = tmp_path / "run"
    path.mkdir()
    store = CheckpointStore(path)
    save(store, 400)
    save(store, 500)
    return path


def files(run: Path) -> list[tuple[Path, bool]]:
    """Every file the newest checkpoint needs, and whether the one before needs it too."""
    own = [(path, False) for path in sorted((run / "checkpoints" / NEW).iterdir())]
    old = {ref["file"] for ref in refs_of(run, 400)}
    new = [ref["file"] for ref in refs_of(run, 500)]
    assert len(set(new) & old) == 2
    return own + [(run / "chunks" / file, file in old) for file in new]


def check_refused(run: Path, path: Path, shared: bool) -> None:
    """Asserts that the newest is passed over and named; the one before too, if it needs the file.

    Args:
        run: Its folder.
        path: The damaged file.
        shared: Whether both need it.
    """
    store = CheckpointStore(run)
    if shared:
        with pytest.raises(RunFolderError, match="found only damaged ones") as failure:
            store.load_newest()
        first, *lines = str(failure.value).splitlines()
        assert first.endswith("Put back a copy, or train in a new folder")
        assert [line.split(":")[0] for line in lines] == [NEW, OLD]
        assert all(path.name in line for line in lines)
        return
    found = store.load_newest()
    assert found is not None
    assert found.step == 400
    check_whole(store, found)
    (reason,) = found.skipped
    assert reason.startswith(f"{NEW}: ")
    assert path.name in reason
    assert "\n" not in reason


def flips(content: bytes, number: int) -> list[bytes]:
    """Gives copies with one bit changed, at places spread over all of the content."""
    total = len(content) * 8
    damaged = []
    for position in sorted(random.Random(0).sample(range(total), min(number, total))):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        damaged.append(bytes(changed))
    return damaged


def truncations(content: bytes, number: int) -> list[bytes]:
    """Gives beginnings of different lengths, shorter than the content."""
    lengths = sorted(random.Random(1).sample(range(len(content)), min(number, len(content))))
    return [content[:length] for length in lengths]


@pytest.mark.parametrize(
    ("damage", "share", "least"), [(flips, 400, 1000), (truncations, 150, 400)]
)
def test_no_damage_to_any_file_is_accepted(
    run: Path, damage: Callable[[bytes, int], list[bytes]], share: int, least: int
) -> None:
    tried = 0
    for path, shared in files(run):
        content = path.read_bytes()
        for changed in damage(content, share):
            path.write_bytes(changed)
            check_refused(run, path, shared)
            tried += 1
        path.write_bytes(content)
    assert tried >= least
    found = CheckpointStore(run).load_newest()
    assert found is not None
    assert (found.step, found.skipped) == (500, [])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to_a_copy(path: Path) -> None:
    copy = path.parent.parent / "copy"
    path.rename(copy)
    path.symlink_to(copy)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("replace", [Path.unlink, longer, folder, pipe, link_to_a_copy, endless])
def test_what_is_missing_or_no_plain_file_is_refused(
    run: Path, replace: Callable[[Path], None]
) -> None:
    for path, shared in files(run):
        there = run.with_name("copy of run")
        shutil.copytree(run, there)
        changed = there / path.relative_to(run)
        replace(changed)
        check_refused(there, changed, shared)
        shutil.rmtree(there)


def test_files_of_two_checkpoints_are_never_mixed(run: Path) -> None:
    old, new = run / "checkpoints" / OLD, run / "checkpoints" / NEW
    for name in ("state.bin", "manifest.json"):
        shutil.copytree(run, run.with_name(name))
        shutil.copy(old / name, run.with_name(name) / "checkpoints" / NEW / name)
        check_refused(run.with_name(name), new / name, shared=False)
    # Also whole ones under the wrong name.
    new.rename(run / "checkpoints" / "step-000000000600")
    found = CheckpointStore(run).load_newest()
    assert found is not None
    assert found.step == 400
    assert found.skipped == ["step-000000000600: manifest.json: expected another step, found 500"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("state.bin")])
def test_a_stranger_that_is_no_file_spoils_a_checkpoint_and_a_file_does_not(
    run: Path, make: Callable[[Path], None]
) -> None:
    (run / "checkpoints" / NEW / ".nfs01").write_bytes(b"")
    found = CheckpointStore(run).load_newest()
    assert found is not None
    assert found.step == 500
    make(run / "checkpoints" / NEW / "stranger")
    check_refused(run, Path("stranger"), shared=False)
    save(CheckpointStore(run), 600)
    save(CheckpointStore(run), 700)
    assert not (run / "checkpoints" / NEW).exists()


def test_a_checkpoint_that_is_a_link_is_refused_and_not_followed_when_it_goes(run: Path) -> None:
    (run / "checkpoints" / NEW).rename(run / "moved")
    (run / "checkpoints" / NEW).symlink_to(run / "moved")
    check_refused(run, Path(NEW), shared=False)
    store = CheckpointStore(run)
    store.load_newest()
    save(store, 500)
    assert (run / "moved" / "manifest.json").is_file()


@pytest.mark.parametrize("name", ["checkpoints", "chunks"])
def test_folders_that_are_links_are_not_followed(tmp_path: Path, name: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / ".tmp-precious").write_bytes(b"")
    (tmp_path / name).symlink_to(other)
    store = CheckpointStore(tmp_path)
    for action in (store.clean, lambda: save(store, 100)):
        with pytest.raises(RunFolderError, match=f"{name}: expected a folder, found a link"):
            action()
    assert [path.name for path in other.iterdir()] == [".tmp-precious"]


def test_when_all_are_damaged_nothing_is_deleted(run: Path) -> None:
    for name in (OLD, NEW):
        (run / "checkpoints" / name / "state.bin").write_bytes(b"")
    before = sorted(run.rglob("*"))
    store = CheckpointStore(run)
    store.clean()
    with pytest.raises(RunFolderError, match="found only damaged ones"):
        store.load_newest()
    with pytest.raises(RunFolderError, match="none of a step after 100, found one of 500"):
        store.save(100, {}, [], {})
    assert sorted(run.rglob("*")) == before


def sign(run: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Forges the newest manifest: changes it, and puts the right hash on it again."""
    path = run / "checkpoints" / NEW / "manifest.json"
    body = json.loads(path.read_text())
    del body["sha256"]
    change(body)
    path.write_bytes(signed(body))
    return path


def signed(body: dict[str, Any]) -> bytes:
    def text(data: dict[str, Any]) -> bytes:
        return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()

    return text({**body, "sha256": hashlib.sha256(text(body)).hexdigest()})


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else 0


RECORD = {"sha256": "0" * 64, "size": 1}
REF = {"name": "a", "file": "a-00000000.z", "sha256": "0" * 64, "size": 1, "raw_size": 1}
FORGERIES: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("expected schema sndqn-checkpoint-1", lambda m: m.update(schema="sndqn-checkpoint-2")),
    ("expected schema", lambda m: m.pop("schema")),
    ("its four parts", lambda m: m.update(more=1)),
    ("its four parts", lambda m: m.pop("info")),
    ("a step from 0", lambda m: m.update(step=500.0)),
    ("another step", lambda m: m.update(step=400)),
    ("info as an object", lambda m: m.update(info=[])),
    ("nested at most 16 deep", lambda m: m["info"].update(a=nested(20))),
    ("files as an object", lambda m: m.update(files=[])),
    ("expected a name", lambda m: m["files"].update({"../400/state.bin": RECORD})),
    ("expected a name", lambda m: m["files"].update({"/etc/passwd": RECORD})),
    ("expected a name", lambda m: m["files"].update({"manifest.json": RECORD})),
    ("sha256 and size of f", lambda m: m["files"].update(f={**RECORD, "size": True})),
    ("sha256 and size of f", lambda m: m["files"].update(f={**RECORD, "size": -1})),
    ("sha256 and size of f", lambda m: m["files"].update(f={**RECORD, "size": MAX_BYTES + 1})),
    ("sha256 and size of f", lambda m: m["files"].update(f={**RECORD, "sha256": "0" * 63 + "G"})),
    ("sha256 and size of f", lambda m: m["files"].update(f={**RECORD, "sha256": None})),
    ("sha256 and size of f", lambda m: m["files"].update(f=[])),
    ("cannot read", lambda m: m["files"].update(f=RECORD)),
    ("a list of chunks", lambda m: m.update(chunks={})),
    ("a reference to a chunk", lambda m: m["chunks"].append([])),
    ("a reference to a chunk", lambda m: m["chunks"].append({**REF, "file": "b-00000000.z"})),
    ("a reference to a chunk", lambda m: m["chunks"].append({**REF, "sha256": ["0"]})),
    ("a reference to a chunk", lambda m: m["chunks"].append({**REF, "raw_size": 10**30})),
    ("expected a name", lambda m: m["chunks"].append({**REF, "name": "../a"})),
    ("cannot read", lambda m: m["chunks"].append(REF)),
]


@pytest.mark.parametrize(("reason", "change"), FORGERIES)
def test_a_forged_manifest_is_refused_with_the_reason(
    run: Path, reason: str, change: Callable[[dict[str, Any]], object]
) -> None:
    sign(run, change)
    found = CheckpointStore(run).load_newest()
    assert found is not None
    assert found.step == 400
    assert reason in found.skipped[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"null", "expected an object"),
        (b"[]", "expected an object"),
        (b"\xff", "can't decode byte"),
        ("é".encode(), "Expecting value"),
        (b"[" * 100_000, "recursion"),
        (b'{"a":' * 100_000, "recursion"),
        (b'{"a":NaN}', "finite numbers, found NaN"),
        (b'{"a":1e999}', "finite numbers, found 1e999"),
        (b'{"a":' + b"9" * 10_000 + b"}", "Exceeds the limit"),
        (b'{"a":1,"a":1}', "each key once"),
        (b"{}", "the content that its sha256 names"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "1048576 bytes at most"),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(run: Path, content: bytes, reason: str) -> None:
    (run / "checkpoints" / NEW / "manifest.json").write_bytes(content)
    check_refused(run, Path("manifest.json"), shared=False)
    found = CheckpointStore(run).load_newest()
    assert found is not None
    assert reason in found.skipped[0]


def test_a_manifest_has_one_text_alone(run: Path) -> None:
    path = run / "checkpoints" / NEW / "manifest.json"
    content = path.read_bytes()
    step = b'"step":500'
    assert step in content
    for changed in (
        content + b"\n",
        content.replace(b",", b", ", 1),
        content.replace(step, step + b"," + step),
        content.replace(b"step", b"\\u0073tep", 1),
    ):
        with pytest.raises(RunFolderError, match=r"manifest\.json: expected"):
            Manifest.from_bytes(changed)
    assert Manifest.from_bytes(content).to_bytes() == content


def test_a_large_manifest_is_not_read(run: Path) -> None:
    path = run / "checkpoints" / NEW / "manifest.json"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES)
    read: list[Path] = []
    hook = Storage(lambda _, name, path: read.append(path) if name == "read" else None)
    found = CheckpointStore(run, hook).load_newest()
    assert found is not None
    assert path not in read
    assert f"expected {MAX_MANIFEST_BYTES} bytes at most" in found.skipped[0]


def chunk_of(run: Path, content: bytes, raw_size: int) -> ChunkRef:
    """Writes a chunk of any content, and refers to it as if it held a number of bytes."""
    sha256 = hashlib.sha256(content).hexdigest()
    file = f"a-{sha256[:8]}.z"
    (run / "chunks").mkdir(exist_ok=True)
    (run / "chunks" / file).write_bytes(content)
    return ChunkRef(name="a", file=file, sha256=sha256, size=len(content), raw_size=raw_size)


@pytest.mark.parametrize(
    ("content", "raw_size"),
    [
        (zlib.compress(b"12345"), 4),
        (zlib.compress(b"12345"), 6),
        (zlib.compress(b"12345"), 0),
        (zlib.compress(b""), 1),
        (zlib.compress(b"12345")[:-1], 5),
        (zlib.compress(b"12345") + b"x", 5),
        (zlib.compress(b"12345")[:-4] + b"0000", 5),
        (b"12345", 5),
        (b"", 0),
    ],
)
def test_a_chunk_that_is_not_what_its_reference_says_is_refused(
    tmp_path: Path, content: bytes, raw_size: int
) -> None:
    ref = chunk_of(tmp_path, content, raw_size)
    with pytest.raises(RunFolderError, match=r"a-\w{8}\.z: expected"):
        CheckpointStore(tmp_path).get_chunk(ref)


def test_chunks_of_no_and_of_one_byte_come_back(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for data in (b"", b"1", bytes(100_000)):
        assert store.get_chunk(store.put_chunk("a", data)) == data


def test_a_bomb_is_unpacked_no_further_than_it_says(tmp_path: Path) -> None:
    ref = chunk_of(tmp_path, zlib.compress(bytes(200 * 2**20), 9), 1000)
    tracemalloc.start()
    with pytest.raises(RunFolderError, match="expected 1000 bytes in it"):
        CheckpointStore(tmp_path).get_chunk(ref)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.parametrize(
    "change", [{"file": "../../x"}, {"name": "../a"}, {"size": None}, {"raw_size": -1}]
)
def test_a_forged_reference_reads_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    ref = chunk_of(tmp_path, zlib.compress(b"1"), 1)
    read: list[str] = []
    store = CheckpointStore(tmp_path, Storage(lambda _, name, __: read.append(name)))
    forged: Any = {**ref, **change}
    with pytest.raises(RunFolderError, match="expected a "):
        store.get_chunk(forged)
    assert read == []
