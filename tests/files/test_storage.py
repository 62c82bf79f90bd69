"""Storage: whole or not at all, links never followed, and errors that name path and remedy."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from sndqn.errors import RunFolderError
from sndqn.files.storage import Storage


class Failing:
    """A hook that fails at the operations of one name."""

    def __init__(self, name: str, code: int = errno.EIO) -> None:
        self.name, self.code = name, code
        self.seen: list[tuple[int, str, str]] = []

    def __call__(self, number: int, name: str, path: Path) -> None:
        self.seen.append((number, name, path.name))
        if name == self.name:
            raise OSError(self.code, os.strerror(self.code))


def test_every_operation_is_announced_with_its_number(tmp_path: Path) -> None:
    hook = Failing("none")
    storage = Storage(hook)
    storage.make_dir(tmp_path / "d")
    storage.write_file(tmp_path / "d" / "f", b"four")
    storage.fsync_dir(tmp_path / "d")
    storage.rename(tmp_path / "d" / "f", tmp_path / "d" / "g")
    assert storage.read_file(tmp_path / "d" / "g", 4) == b"four"
    assert storage.list_dir(tmp_path / "d") == {"g": "file"}
    storage.remove_file(tmp_path / "d" / "g")
    storage.remove_dir(tmp_path / "d")
    assert [number for number, _, _ in hook.seen] == [*range(1, storage.operations + 1)]
    assert [(name, path) for _, name, path in hook.seen] == [
        ("mkdir", "d"),
        ("open", "f"),
        ("write", "f"),
        ("write-rest", "f"),
        ("fsync", "f"),
        ("fsync-dir", "d"),
        ("rename", "f"),
        ("stat", "g"),
        ("read", "g"),
        ("list", "d"),
        ("remove", "g"),
        ("rmdir", "d"),
    ]


def test_half_of_the_bytes_are_there_at_the_second_write(tmp_path: Path) -> None:
    lengths = []
    path = tmp_path / "f"

    def look(_number: int, name: str, _path: Path) -> None:
        if name != "open":
            lengths.append((name, path.stat().st_size))

    Storage(look).write_file(path, bytes(1001))
    assert lengths == [("write", 0), ("write-rest", 500), ("fsync", 1001)]


@pytest.mark.parametrize("name", ["open", "write", "write-rest", "fsync"])
@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "No space left on device. Free at least as much"),
        (errno.EIO, "Input/output error. The disk is failing"),
        (errno.EROFS, "Read-only file system. Give a place"),
        (errno.EINTR, "Check the folder and its disk"),
    ],
)
def test_a_failed_write_leaves_nothing_and_names_path_bytes_and_remedy(
    tmp_path: Path, name: str, code: int, remedy: str
) -> None:
    path, hook = tmp_path / "f", Failing(name, code)
    with pytest.raises(RunFolderError) as failure:
        Storage(hook).write_file(path, bytes(1001))
    assert f"cannot write {path} (1001 bytes): " in str(failure.value)
    assert remedy in str(failure.value)
    assert not path.exists()
    assert [done for _, done, _ in hook.seen].count("fsync") <= 1


def test_an_interrupt_leaves_nothing_either(tmp_path: Path) -> None:
    def interrupt(_number: int, name: str, _path: Path) -> None:
        if name == "fsync":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Storage(interrupt).write_file(tmp_path / "f", b"1")
    assert list(tmp_path.iterdir()) == []


def test_writing_never_touches_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("f", "link"):
        with pytest.raises(RunFolderError, match=f"cannot write .*{name}.*File exists"):
            Storage().write_file(tmp_path / name, b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert not (tmp_path / "elsewhere").exists()


def limited(path: Path) -> str:
    """Writes 5,000 bytes where a file may have 4,096, in another process; gives the error."""
    code = f"""
import resource
from pathlib import Path
from sndqn.errors import RunFolderError
from sndqn.files.storage import Storage
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY}))
try:
    Storage().write_file(Path({str(path)!r}), bytes(5000))
except RunFolderError as error:
    print(error)
"""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_a_real_limit_on_the_size_of_files_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    message = limited(tmp_path / "f")
    assert message.startswith(f"cannot write {tmp_path / 'f'} (5000 bytes): File too large. Raise")
    assert list(tmp_path.iterdir()) == []


def make(path: Path, kind: str) -> None:
    """Makes something that is no ordinary file."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"link": "good", "device": "/dev/zero", "dangling": "nowhere"}[kind])


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "device", "dangling"])
def test_only_ordinary_files_are_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "good").write_bytes(b"1")
    make(tmp_path / "f", kind)
    with pytest.raises(
        RunFolderError, match=r"f: expected a file, found a (folder|link or device)"
    ):
        Storage().read_file(tmp_path / "f", 1)


def test_a_file_of_another_size_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    hook = Failing("none")
    for size, at_most, reason in ((4, 99, "4 bytes, found 5"), (None, 4, "4 bytes at most")):
        with pytest.raises(RunFolderError, match=f"f: expected {reason}"):
            Storage(hook).read_file(tmp_path / "f", size, at_most=at_most)
    assert "read" not in [name for _, name, _ in hook.seen]


@pytest.mark.parametrize("change", [b"", b"123456", b"1234"])
def test_a_file_that_changes_between_look_and_reading_is_refused(
    tmp_path: Path, change: bytes
) -> None:
    (tmp_path / "f").write_bytes(b"12345")

    def edit(_number: int, name: str, path: Path) -> None:
        if name == "read":
            path.write_bytes(change)

    with pytest.raises(RunFolderError, match="expected 5 bytes, found it changing"):
        Storage(edit).read_file(tmp_path / "f", 5)


def test_a_link_put_in_place_between_look_and_reading_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    (tmp_path / "secret").write_bytes(b"abcde")

    def swap(_number: int, name: str, path: Path) -> None:
        if name == "read":
            path.unlink()
            path.symlink_to("secret")

    with pytest.raises(RunFolderError, match=r"cannot read .*f: "):
        Storage(swap).read_file(tmp_path / "f", 5)


def test_removing_a_tree_takes_links_and_not_what_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "f").write_bytes(b"1")
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "inner" / "f").write_bytes(b"1")
    (tree / "link").symlink_to(tmp_path / "kept")
    Storage().remove_tree(tree)
    Storage().remove_tree(tree)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "f").read_bytes() == b"1"


def test_a_link_to_a_folder_is_not_listed_and_a_missing_folder_is_empty(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert Storage().list_dir(tmp_path) == {"folder": "folder", "link": "link or device"}
    assert Storage().list_dir(tmp_path / "gone") == {}
    with pytest.raises(RunFolderError, match="link: expected a folder, found a link or device"):
        Storage().list_dir(tmp_path / "link")


def test_files_and_folders_are_really_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    Storage().write_file(tmp_path / "f", bytes(1001))
    Storage().fsync_dir(tmp_path)
    assert synced[0] == ((tmp_path / "f").stat().st_ino, 1001)
    assert [inode for inode, _ in synced[1:]] == [tmp_path.stat().st_ino]


def test_a_failed_sync_of_a_folder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunFolderError, match=f"cannot bring {tmp_path} to the disk: Input/output"):
        Storage().fsync_dir(tmp_path)


def test_a_file_system_that_syncs_no_folders_is_no_error() -> None:
    # So it is in /proc, and on some network drives.
    Storage().fsync_dir(Path("/proc/self"))
