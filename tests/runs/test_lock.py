"""The lock of a run: one process at a time, and free however that process ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sndqn.errors import RunFolderError
from sndqn.runs.lock import RunLock

HOLD = """
import os, sys, time
from pathlib import Path
from sndqn.runs.lock import RunLock
with RunLock(Path(sys.argv[1])):
    child = os.fork() if "fork" in sys.argv else 1
    if "fork" not in sys.argv:
        print(1, flush=True)
    elif not child:
        print(os.getpid(), flush=True)  # it is there, and has let go of what it inherited
    time.sleep(600)
"""


@contextmanager
def holder(run: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Runs a process that holds the lock; gives it, and the child that it forked if asked."""
    command = [sys.executable, "-c", HOLD, str(run), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            if child > 1:
                os.kill(child, signal.SIGKILL)


def test_a_second_process_is_told_who_holds_the_run(tmp_path: Path) -> None:
    with holder(tmp_path) as (process, _):
        with pytest.raises(RunFolderError) as refusal, RunLock(tmp_path):
            pass
        message = str(refusal.value)
        assert f"{tmp_path} is in use by process {process.pid} on " in message
        assert "since 20" in message
        assert message.endswith(": wait for it, or stop it first")


def test_a_process_that_stands_still_keeps_its_run(tmp_path: Path) -> None:
    with holder(tmp_path) as (process, _):
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(RunFolderError, match=f"process {process.pid} "), RunLock(tmp_path):
            pass


def test_kill_9_frees_the_run_though_the_file_stays(tmp_path: Path) -> None:
    with holder(tmp_path) as (process, _):
        process.kill()
        process.wait()
        assert json.loads((tmp_path / "lock").read_text())["pid"] == process.pid
        with RunLock(tmp_path):
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_a_forked_worker_that_outlives_the_holder_does_not_keep_the_run(tmp_path: Path) -> None:
    with holder(tmp_path, "fork") as (process, child):
        process.kill()
        process.wait()
        os.kill(child, 0)
        with RunLock(tmp_path):
            pass


def test_the_same_process_cannot_take_a_run_twice_but_one_after_the_other(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        with pytest.raises(RunFolderError, match=f"process {os.getpid()} "), RunLock(tmp_path):
            pass
        with pytest.raises(RunFolderError), RunLock(tmp_path):
            pass
    with RunLock(tmp_path):
        pass


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"[" * 1000,
        b'{"pid": 1e999, "host": "h", "started": "s"}',
        b'{"pid": true, "host": "h", "started": "s"}',
        b'{"pid": 1}',
    ],
)
def test_a_holder_that_cannot_be_read_is_another_process(tmp_path: Path, text: bytes) -> None:
    with RunLock(tmp_path):
        (tmp_path / "lock").write_bytes(text)
        with pytest.raises(RunFolderError, match="in use by another process"), RunLock(tmp_path):
            pass


def test_what_stands_in_a_lock_file_cannot_steer_a_terminal(tmp_path: Path) -> None:
    record = {"pid": 7, "host": "\x1b]0;x\x07", "started": "\u202e"}
    with RunLock(tmp_path):
        (tmp_path / "lock").write_text(json.dumps(record))
        with pytest.raises(RunFolderError) as refusal, RunLock(tmp_path):
            pass
    assert r"process 7 on \x1b]0;x\x07, since \u202e:" in str(refusal.value)
    assert "\x1b" not in str(refusal.value)


def test_a_refusal_leaves_no_file_open(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            with pytest.raises(RunFolderError), RunLock(tmp_path):
                pass
        assert os.listdir("/proc/self/fd") == before


def test_an_old_lock_file_of_any_content_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"x" * 5000)
    with RunLock(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_where_no_lock_can_be_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "lock").symlink_to(tmp_path / "elsewhere")
    for run in (tmp_path / "gone", tmp_path / "linked"):
        with pytest.raises(RunFolderError, match=f"cannot open {run}/lock: "), RunLock(run):
            pass
    assert not (tmp_path / "elsewhere").exists()
