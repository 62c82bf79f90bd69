"""`sndqn watch` on a real display, of a virtual screen, with keys that a keyboard would press."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageGrab, features

SECONDS = 120  # of patience, on a machine that does other things
WATCH = [sys.executable, "-m", "sndqn.cli", "watch"]


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if not (shutil.which("Xvfb") and shutil.which("xdotool") and features.check("xcb")):
        pytest.skip("needs Xvfb and xdotool")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1024x768x24"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as numbers:
            name = f":{int(numbers.readline())}"
        monkeypatch.setenv("DISPLAY", name)
        for other in ("SDL_VIDEODRIVER", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(other, raising=False)
        yield name
    finally:
        server.terminate()
        server.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_window_plays_pauses_steps_and_hides_values_by_keys(display: str) -> None:
    def screen() -> np.ndarray:
        return np.asarray(ImageGrab.grab(xdisplay=display))

    def columns() -> int:
        return int(screen().any(axis=(0, 2)).sum())

    def stands_still() -> bool:
        before = screen()
        time.sleep(0.5)
        return np.array_equal(screen(), before)

    def press(key: str) -> None:
        subprocess.run(["xdotool", "key", key], check=True)

    process = subprocess.Popen(
        [*WATCH, "CartPole/sn"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: columns() == 600 + 320)
        assert not stands_still()  # 500 steps are 10 s
        press("space")
        wait_for(stands_still)
        paused = screen()
        press("period")
        wait_for(lambda: not np.array_equal(screen(), paused))
        wait_for(stands_still)
        press("v")
        wait_for(lambda: columns() == 600)
        press("space")
        wait_for(lambda: not stands_still())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err == "sndqn: stopped by Ctrl-C\n"
    assert "sha256 " in out


@pytest.mark.slow
def test_a_training_is_watched_while_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    command = ["train", "--env", "CartPole", "--total-timesteps", "200000", "--threads", "1"]
    command += ["--compile", "never", "--no-tensorboard", "--runs-dir", str(tmp_path)]
    training = subprocess.Popen(
        [sys.executable, "-m", "sndqn.cli", *command], stdout=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: bool(list(tmp_path.glob("*/*/agent.safetensors"))))
        watching = subprocess.run(
            [*WATCH, str(tmp_path / "CartPole-v1"), "--games", "6", "--speed", "2"],
            capture_output=True,
            text=True,
            check=True,
            timeout=3 * SECONDS,
        )
        assert training.poll() is None
    finally:
        training.kill()
        training.wait()
    games = [line for line in watching.stdout.splitlines() if line.startswith("game ")]
    steps = [int(line.partition("; after ")[2].split()[0].replace(",", "")) for line in games]
    assert len(steps) == 6
    assert steps == sorted(steps)
    assert steps[-1] > steps[0]
    assert all(line.endswith(" of 200,000 steps") for line in games)
