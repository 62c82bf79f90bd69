"""All file work of checkpoints, one operation at a time, so that a test can stop it at any of them.

Folders and files only: nothing here knows what a checkpoint is. Links are never followed.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sndqn.errors import RunFolderError

# A file larger than this is not read, whatever claims that it should be.
MAX_BYTES = 2 * 1024**3

Hook = Callable[[int, str, Path], None]

_NO_SPACE = "Free at least as much on that disk"
_NOT_YOURS = "Make it yours to read and write"
_REMEDIES = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: "Raise the limit on the size of files (`ulimit -f`)",
    errno.EACCES: _NOT_YOURS,
    errno.EPERM: _NOT_YOURS,
    errno.EROFS: "Give a place that may be written to, with --runs-dir",
    errno.EIO: "The disk is failing: copy the run to another one",
    errno.ENOENT: "Put back what was moved or deleted",
}
# How a file system says that a folder cannot be synced there at all.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
# Not on Windows: there, links are refused by the look before the opening alone.
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Storage:
    """Reads, writes and removes files, so that what it has finished survives a loss of power.

    Args:
        hook: Called before each operation with its number from 1, its name and its path. Writing
            a file is four: "open", "write", "write-rest" after half of the bytes, and "fsync".

    Attributes:
        operations: Number of operations begun.
    """

    def __init__(self, hook: Hook | None = None) -> None:
        self.operations = 0
        self._hook = hook

    def write_file(self, path: Path, content: bytes) -> None:
        """Writes a new file and waits until its bytes are on the disk, or leaves none.

        Raises:
            RunFolderError: It exists, or it cannot be written.
        """
        with _in_words(f"write {path} ({len(content)} bytes)"):
            self._before("open", path)
            file = path.open("xb", buffering=0)
            try:
                with file:
                    half = len(content) // 2
                    self._before("write", path)
                    _write(file.fileno(), memoryview(content)[:half])
                    self._before("write-rest", path)
                    _write(file.fileno(), memoryview(content)[half:])
                    self._before("fsync", path)
                    os.fsync(file.fileno())
            except BaseException:
                # Never a second fsync: after a failed one the system takes the lost pages for
                # written. Another attempt starts with a new file.
                self.discard(path)
                raise

    def make_dir(self, path: Path) -> None:
        """Makes a folder that is not there yet."""
        with _in_words(f"make the folder {path}"):
            self._before("mkdir", path)
            path.mkdir()

    def fsync_dir(self, path: Path) -> None:
        """Waits until what was made, renamed and removed in a folder is so on the disk."""
        with _in_words(f"bring {path} to the disk"):
            self._before("fsync-dir", path)
            if os.name == "nt":  # Windows opens no folders.
                return
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            except OSError as error:
                if error.errno not in _NO_FOLDER_SYNC:
                    raise
            finally:
                os.close(descriptor)

    def rename(self, path: Path, target: Path) -> None:
        """Renames a file or a folder; a file of the new name is replaced."""
        with _in_words(f"rename {path} to {target.name}"):
            self._before("rename", path)
            path.replace(target)

    def remove_file(self, path: Path) -> None:
        """Removes a file or a link."""
        with _in_words(f"remove {path}"):
            self._before("remove", path)
            path.unlink()

    def remove_dir(self, path: Path) -> None:
        """Removes an empty folder."""
        with _in_words(f"remove {path}"):
            self._before("rmdir", path)
            path.rmdir()

    def remove_tree(self, path: Path) -> None:
        """Removes a file, or a folder with all that is in it, if there is one."""
        with _in_words(f"look at {path}"):
            try:
                kind = _kind(path.lstat().st_mode)
            except FileNotFoundError:
                return
        if kind != "folder":
            return self.remove_file(path)
        for name in self.list_dir(path):
            self.remove_tree(path / name)
        return self.remove_dir(path)

    def discard(self, path: Path) -> None:
        """Removes what a failure left, as far as that can be done, without another error."""
        with suppress(RunFolderError):
            self.remove_tree(path)

    def list_dir(self, path: Path) -> dict[str, str]:
        """Returns the names in a folder, sorted, each with "folder", "file" or "link or device".

        A folder that is not there has none.

        Raises:
            RunFolderError: It is no folder, but a link to one, for example.
        """
        with _in_words(f"list {path}"):
            self._before("list", path)
            try:
                kind = _kind(path.lstat().st_mode)
            except FileNotFoundError:
                return {}
            if kind != "folder":
                raise RunFolderError(f"{path}: expected a folder, found a {kind}")
            with os.scandir(path) as entries:
                found = {
                    item.name: _kind(item.stat(follow_symlinks=False).st_mode) for item in entries
                }
        return dict(sorted(found.items()))

    def check_file(self, path: Path, size: int | None = None, at_most: int = MAX_BYTES) -> int:
        """Returns the size of an ordinary file in bytes, without opening it.

        Raises:
            RunFolderError: It is missing, is no ordinary file, or is not of the expected size.
        """
        with _in_words(f"read {path}"):
            self._before("stat", path)
            found = path.lstat()
        if _kind(found.st_mode) != "file":
            raise RunFolderError(f"{path}: expected a file, found a {_kind(found.st_mode)}")
        if size is not None and found.st_size != size:
            raise RunFolderError(f"{path}: expected {size} bytes, found {found.st_size}")
        if found.st_size > at_most:
            raise RunFolderError(f"{path}: expected {at_most} bytes at most, found more")
        return found.st_size

    def read_file(
        self,
        path: Path,
        size: int | None = None,
        sha256: str | None = None,
        at_most: int = MAX_BYTES,
    ) -> bytes:
        """Reads an ordinary file.

        Args:
            path: The file.
            size: Bytes that it must have, if known.
            sha256: Hash that its content must have, in hexadecimal, if known.
            at_most: Bytes that it may have.

        Raises:
            RunFolderError: As `check_file`, which looks before anything is opened; or its content
                is another.
        """
        length = self.check_file(path, size, at_most)
        with _in_words(f"read {path}"):
            self._before("read", path)
            with os.fdopen(os.open(path, os.O_RDONLY | _PLAIN), "rb") as file:
                content = file.read(length)
                if len(content) != length or file.read(1):
                    raise RunFolderError(f"{path}: expected {length} bytes, found it changing")
        found = hashlib.sha256(content).hexdigest() if sha256 is not None else None
        if found != sha256:
            raise RunFolderError(f"{path}: damaged: expected sha256 {sha256}, found {found}")
        return content

    def _before(self, name: str, path: Path) -> None:
        self.operations += 1
        if self._hook is not None:
            self._hook(self.operations, name, path)


def _write(descriptor: int, rest: memoryview) -> None:
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "link or device"


@contextmanager
def _in_words(action: str) -> Iterator[None]:
    """Turns an error of the system into one that says what failed and what helps."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Check the folder and its disk")
        reason = error.strerror or str(error)
        raise RunFolderError(f"cannot {action}: {reason}. {remedy}") from None
