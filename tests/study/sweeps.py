"""Studies of runs of a second, made by processes that can be killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from sndqn.runs.folder import RunFolder
from sndqn.study.folder import Study

SMALL: dict[str, Any] = {
    "total_timesteps": 1500, "learning_starts": 100, "buffer_size": 500, "batch_size": 8,
    "train_freq": 2, "gradient_steps": 1, "target_update_interval": 20, "features_dim": 8,
    "net_arch": "8", "log_every_timesteps": 100, "eval_episodes": 2, "eval_max_steps": 30,
    "exploration_timesteps": 300, "checkpoint_every_timesteps": 150, "tensorboard": False,
    "compile": "never",
}  # fmt: skip
CARTPOLE: dict[str, Any] = {"env": "CartPole", "settings": SMALL, "seed": "0..1"}


def write_study(file: Path, design: dict[str, Any]) -> Path:
    """Writes a design to a file; JSON is YAML."""
    file.write_text(json.dumps(design))
    return file


def start_sweep(*arguments: object) -> "subprocess.Popen[str]":
    """Starts `sndqn sweep` in a process and session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sndqn.cli", "sweep", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Waits until something holds, and returns it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)
    return found


def workers(study: Study) -> dict[str, int]:
    """Gives the process of each run that is being made, by the run's name."""
    found = {}
    for run in study.runs:
        if study.status(run) == "running":
            text = (study.folder(run).path / "lock").read_text()
            if text:  # the lock is taken before its file says by whom
                found[run.name] = int(json.loads(text)["pid"])
    return found


def kill(pid: int) -> None:
    """Kills a process, if it is there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def outcome(folder: RunFolder) -> dict[str, str]:
    """Everything that an interruption must not change: weights, metrics, evaluation, episodes."""
    weights = hashlib.sha256()
    for name, values in sorted(load_file(folder.agent).items()):
        weights.update(name.encode() + values.tobytes())
    files = (folder.metrics, folder.evaluation, folder.episodes)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return {"weights": weights.hexdigest(), **digests}
