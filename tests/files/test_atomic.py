"""Writing whole or not at all: what was there stays until the new content is safe."""

import json
from pathlib import Path

import pytest

from sndqn.errors import RunFolderError
from sndqn.files import Storage, write_bytes, write_json, write_text, written_whole
from sndqn.runs.folder import RunFolder


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_writing_replaces_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    write_json(tmp_path / "a.json", {"σ": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"σ": 2}
    write_text(tmp_path / "a.json", "σ")
    assert (tmp_path / "a.json").read_bytes() == "σ".encode()
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("stop", ["open", "write", "write-rest", "fsync", "rename"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_anywhere_leaves_what_was_there(
    tmp_path: Path, stop: str, error: BaseException
) -> None:
    def fail(_number: int, name: str, _path: Path) -> None:
        if name == stop:
            raise error

    (tmp_path / "f").write_bytes(b"old")
    expected = RunFolderError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_bytes(tmp_path / "f", b"new", Storage(fail))
    assert names(tmp_path) == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_what_a_killed_writer_left_is_cleaned_away_and_nothing_else(tmp_path: Path) -> None:
    class Killed(BaseException):
        """The process ends: nothing tidies up."""

    def kill(_number: int, name: str, path: Path) -> None:
        if name == "rename":
            path.rename(path.with_name(path.name + "x"))  # out of the reach of the tidying
            raise Killed

    with pytest.raises(Killed):
        write_bytes(tmp_path / "evaluation.json", b"half", Storage(kill))
    (left,) = names(tmp_path)
    assert left.startswith(".tmp-")
    (tmp_path / "notes.tmp").write_text("mine")
    (tmp_path / ".tmp-step-1").mkdir()
    RunFolder(tmp_path).clean()
    assert sorted(names(tmp_path)) == [".tmp-step-1", "notes.tmp"]


def test_writing_where_one_cannot_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="cannot write") as failure:
        write_bytes(tmp_path / "gone" / "file", b"x")
    assert "\n" not in str(failure.value)


def test_a_file_that_another_program_fills_is_renamed_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    with written_whole(path) as temporary:
        assert temporary.read_bytes() == b""
        assert not path.exists()
        temporary.write_bytes(b"1")
    assert path.read_bytes() == b"1"
    with pytest.raises(ZeroDivisionError), written_whole(path) as temporary:
        temporary.write_bytes(bytes([1 // 0]))
    assert path.read_bytes() == b"1"
    assert names(path.parent) == ["a.bin"]
