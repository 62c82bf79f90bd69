"""A model of a disk that loses power: what may be left of a recorded sequence of operations.

A folder's entry (a file made, renamed or removed) is safe once that folder was synced; a file's
bytes once the file was. Of the entries that are not, all may be lost, or any of the last three,
whatever comes after them; of the bytes, all, a part, or all but their number. After a sync that
failed, the next one says nothing of what came before.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import compress, product
from pathlib import Path

from sndqn.files.storage import Storage

WINDOW = 3


class PowerCut(BaseException):
    """Ends a process as kill -9 would: no operation comes after it."""


@dataclass
class File:
    """A file by what was written to it, wherever its name is now."""

    content: bytes = b""
    synced: bool = False


@dataclass(frozen=True)
class Operation:
    """One recorded operation on paths below the run."""

    name: str
    path: str
    target: str = ""
    content: bytes = b""

    @property
    def parent(self) -> str:
        """The folder whose entry it changes."""
        return self.path.rpartition("/")[0]


class Recorder(Storage):
    """Notes every operation that changes the disk, just before it is done.

    Args:
        run: The folder of the run.
        log: Where to; the log of a process that was killed may go on in the next one.
        fatal: Length of the log at which the process ends.
        failing: Length of the log at which a sync fails, if one comes there.
    """

    def __init__(
        self,
        run: Path,
        log: list[Operation],
        fatal: int | None = None,
        failing: int | None = None,
    ) -> None:
        super().__init__(self._note)
        self.run, self.log, self.fatal, self.failing = run, log, fatal, failing
        self._target = ""
        self._content = b""

    def rename(self, path: Path, target: Path) -> None:
        self._target = self._inner(target)
        super().rename(path, target)

    def write_file(self, path: Path, content: bytes) -> None:
        self._content = content
        super().write_file(path, content)

    def _inner(self, path: Path) -> str:
        inner = str(path.relative_to(self.run))
        return "" if inner == "." else inner

    def _note(self, _number: int, name: str, path: Path) -> None:
        if name in ("list", "stat", "read"):
            return
        if self.fatal is not None and len(self.log) >= self.fatal:
            raise PowerCut
        inner, half = self._inner(path), len(self._content) // 2
        content = {"write": self._content[:half], "write-rest": self._content[half:]}.get(name, b"")
        target = self._target if name == "rename" else ""
        fails = name.startswith("fsync") and len(self.log) == self.failing
        self.log.append(Operation(f"failed-{name}" if fails else name, inner, target, content))
        if fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@dataclass
class Disk:
    """The tree after some operations: folders as None, files by their content."""

    tree: dict[str, File | None] = field(default_factory=lambda: {"": None})

    def apply(self, operation: Operation, file: File) -> None:
        """Changes an entry, unless an earlier loss has taken away what that needs."""
        path, target = operation.path, operation.target
        inside = [name for name in self.tree if name.startswith(path + "/")]
        if operation.name in ("mkdir", "open"):
            if operation.parent in self.tree:
                self.tree[path] = None if operation.name == "mkdir" else file
        elif path not in self.tree:
            return
        elif operation.name == "rename":
            if not any(name.startswith(target + "/") for name in self.tree):
                for name in [path, *inside]:
                    self.tree[target + name[len(path) :]] = self.tree.pop(name)
        elif not inside:
            del self.tree[path]

    def write(self, run: Path, lost: int) -> None:
        """Makes the tree below a folder; `lost` says what became of bytes that were not synced."""
        for path, file in sorted(self.tree.items()):
            if file is None:
                (run / path).mkdir(exist_ok=True)
            else:
                (run / path).write_bytes(file.content if file.synced else torn(file.content, lost))

    def key(self) -> tuple[tuple[str, bytes | None, bool], ...]:
        """Tells two disks apart."""
        return tuple(
            (path, file.content if file else None, file is None or file.synced)
            for path, file in sorted(self.tree.items())
        )

    @property
    def at_risk(self) -> bool:
        """Whether it has a file with bytes that were not synced."""
        return any(file and not file.synced and file.content for file in self.tree.values())


def torn(content: bytes, lost: int) -> bytes:
    """What may be left of bytes that were written and not synced, in one of five ways."""
    half = len(content) // 2
    ways = (
        b"",
        bytes(len(content)),
        content[:half],
        content[:half] + bytes(len(content) - half),
        content,
    )
    return ways[lost]


def crash_states(log: list[Operation]) -> Iterator[tuple[int, Disk, int]]:
    """Gives each state that may be found after a power cut, once for each number of operations.

    Yields:
        Operations done, the disk, and what became of bytes that were not synced.
    """
    seen = set()
    for done in range(len(log) + 1):
        entries = _entries(log[:done])
        unsynced = [index for index, (_, _, synced) in enumerate(entries) if not synced]
        window = unsynced[-WINDOW:]
        subsets = [set(compress(window, fate)) for fate in product((0, 1), repeat=len(window))]
        for lost_entries in [*subsets, set(unsynced)]:
            disk = Disk()
            for index, (operation, file, _) in enumerate(entries):
                if index not in lost_entries:
                    disk.apply(operation, file)
            for lost in range(5 if disk.at_risk else 1):
                state = (done, disk.key(), lost)
                if state not in seen:
                    seen.add(state)
                    yield done, disk, lost


def _entries(log: list[Operation]) -> list[tuple[Operation, File, bool]]:
    """Gives the operations that change entries, each with its file and whether it is safe."""
    found: list[tuple[Operation, File, bool]] = []
    hopeless: set[int] = set()
    open_files: dict[str, File] = {}
    for operation in log:
        if operation.name == "open":
            open_files[operation.path] = File()
        file = open_files.get(operation.path, File())
        inside = [i for i, (entry, _, _) in enumerate(found) if entry.parent == operation.path]
        if operation.name in ("write", "write-rest"):
            file.content += operation.content
        elif operation.name == "fsync":
            file.synced = True
        elif operation.name == "fsync-dir":
            for index in set(inside) - hopeless:
                found[index] = (*found[index][:2], True)
        elif operation.name == "failed-fsync-dir":
            hopeless.update(index for index in inside if not found[index][2])
        elif operation.name not in ("failed-fsync", "stat"):
            found.append((operation, file, False))
    return found
