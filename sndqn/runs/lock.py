"""One process at a time in a run's folder, by a lock that the system releases, however it ends."""

import errno
import json
import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path

from sndqn.errors import RunFolderError, RunInUseError

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        # One byte far behind the text: on Windows, what is locked cannot be read.
        os.lseek(descriptor, 2**30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_TAKEN = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_MAX_BYTES = 1024


class RunLock:
    """Holds a run for this process: `with RunLock(path):`.

    The file stays; what counts is the lock on it, and the kernel gives that back when the process
    ends. Forked workers do not keep it.

    Args:
        run_path: The folder of the run.
    """

    def __init__(self, run_path: Path) -> None:
        self.run_path = run_path
        self._descriptor: int | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._close)

    def __enter__(self) -> "RunLock":
        """Takes the lock, or refuses at once.

        Raises:
            RunInUseError: Another process has it.
            RunFolderError: There can be none here.
        """
        path = self.run_path / "lock"
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise RunFolderError(
                f"cannot open {path}: {error.strerror}. Give the folder of a run that is yours to "
                "write"
            ) from None
        try:
            _take(descriptor)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno in _TAKEN:
                raise RunInUseError(
                    f"{self.run_path} is in use by {holder}: wait for it, or stop it first"
                ) from None
            raise RunFolderError(
                f"cannot lock {path}: {error.strerror}. Put the run on a disk of this machine, "
                "with --runs-dir"
            ) from None
        self._descriptor = descriptor
        with suppress(OSError):  # A full disk: the lock holds all the same.
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _own_description())
        return self

    def __exit__(self, *_: object) -> None:
        """Releases the lock."""
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_locked(run_path: Path) -> bool:
    """Returns whether a process holds a run, by trying."""
    try:
        descriptor = os.open(run_path / "lock", os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False
    try:
        _take(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _own_description() -> bytes:
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    record = {"pid": os.getpid(), "host": platform.node(), "started": started}
    return (json.dumps(record) + "\n").encode()


def _holder(descriptor: int) -> str:
    """Describes the lock's holder, if the file's content is plausible."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        record = json.loads(os.read(descriptor, _MAX_BYTES))
        pid, host, started = int(str(record["pid"])), str(record["host"]), str(record["started"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "another process"
    # The file may come from anywhere, and the text goes to a terminal.
    return f"process {pid} on {ascii(host)[1:-1]}, since {ascii(started)[1:-1]}"
