"""Writing a file wholly or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sndqn.errors import RunFolderError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give an empty temporary file beside `path`, and rename it to `path` if the body succeeds.

    Missing folders are created. If the body fails or is interrupted, the temporary file is removed
    and a file that was at `path` before is left as it was.

    Yields:
        The absolute path of the temporary file.

    Raises:
        RunFolderError: `path` cannot be written.
    """
    path = path.absolute()
    temporary = path.with_name(f".{os.getpid()}-{path.name}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Before the body's work, so that a folder without permission is known at once.
        temporary.touch()
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise RunFolderError(
            f"expected to write {path}, found: {error.strerror or error}; name another file"
        ) from error
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    """Delete `path` if it exists; where its very folder cannot exist there is nothing to do."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
