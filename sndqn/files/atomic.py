"""Writes a file whole or not at all: beside its place first, then renamed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sndqn.errors import RunFolderError
from sndqn.files.storage import Storage

TEMPORARY = ".tmp-"
"""The beginning of the names of files and folders that are not whole yet."""


def write_json(path: Path, content: object) -> None:
    """Writes JSON whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, content: str) -> None:
    """Writes UTF-8 whole or not at all."""
    write_bytes(path, content.encode())


def write_bytes(
    path: Path, content: bytes, storage: Storage | None = None, mark: str | None = None
) -> None:
    """Writes a file whole or not at all.

    Args:
        path: The file; one that is there is replaced.
        content: What it is to hold.
        storage: Does the work.
        mark: Tells this writer's temporary file from another's: the process's number by default.
            Where a lock keeps others out it may be "", and what a killed process left is then
            written over.

    Raises:
        RunFolderError: The disk is full, the folder is gone or not writable.
    """
    storage = storage or Storage()
    with _renamed_when_done(path, storage, mark) as temporary:
        storage.write_file(temporary, content)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields an empty file beside the named one, and renames it if the body succeeds.

    Missing folders are made. If the body fails or is interrupted, the temporary file is removed
    and a file that was at `path` before is left as it was.

    Yields:
        The absolute path of the temporary file.

    Raises:
        RunFolderError: `path` cannot be written, which is known before the body's work.
    """
    path, storage = path.absolute(), Storage()
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with _renamed_when_done(path, storage) as temporary:
            temporary.touch()
            yield temporary
    except OSError as error:
        raise RunFolderError(
            f"expected to write {path}, found: {error.strerror or error}; name another file"
        ) from error


@contextmanager
def _renamed_when_done(path: Path, storage: Storage, mark: str | None = None) -> Iterator[Path]:
    """Yields a free name beside `path`, and renames what is written there if the body succeeds."""
    mark = f"{os.getpid()}-" if mark is None else mark
    temporary = path.with_name(f"{TEMPORARY}{mark}{path.name}")
    storage.remove_tree(temporary)
    try:
        yield temporary
        storage.rename(temporary, path)
    except BaseException:
        storage.discard(temporary)
        raise
