"""Runs that are killed and taken up again, each in a process of its own.

The processes are forked from a server that has imported everything once, so that a trial takes no
longer than its training.
"""

import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from sndqn.runs.folder import RunFolder
from sndqn.training.config import make_config
from sndqn.training.run import resume, train
from sndqn.training.signals import TrainingStopped

FORKS = multiprocessing.get_context("forkserver")
# torch's optimisers would import the second in each process, which takes two seconds.
FORKS.set_forkserver_preload(["killed_runs", "torch._dynamo", "sndqn.envs.atari_vector"])

# A run of half a second that has everything a run can have.
SMALL: dict[str, Any] = {
    "env": "CartPole", "total_timesteps": 400, "learning_starts": 60, "buffer_size": 250,
    "batch_size": 8, "train_freq": 2, "gradient_steps": 1, "target_update_interval": 20,
    "features_dim": 8, "net_arch": "8", "log_every_timesteps": 90, "eval_episodes": 1,
    "eval_every_timesteps": 210, "eval_max_steps": 30, "keep_best": True,
    "exploration_timesteps": 300,
    "checkpoint_every_timesteps": 110, "tensorboard": False, "compile": "never", "threads": 1,
    "keep_checkpoints": True,
}  # fmt: skip
ATARI: dict[str, Any] = {
    **SMALL, "env": "Pong", "n_envs": 2, "train_freq": 4, "net_arch": "16", "total_timesteps": 240,
    "checkpoint_every_timesteps": 70, "eval_every_timesteps": 0, "keep_best": False,
}  # fmt: skip
del ATARI["features_dim"]
COMPILED: dict[str, Any] = {
    **SMALL, "env": "MinAtar/Breakout", "channels": "16", "features_dim": 128, "compile": "always",
    "sn_layers": "all", "eval_every_timesteps": 0, "keep_best": False,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "dqn": SMALL,
    "rainbow": {
        **SMALL, "algo": "c51", "double": True, "dueling": True, "noisy": True, "n_steps": 3,
        "prioritized": True, "n_atoms": 11, "sn_layers": "-3",
    },
    "several environments, decay, RMSprop": {
        **SMALL, "n_envs": 4, "train_freq": 4, "learning_rate_decay": True, "optimizer": "rmsprop",
        "algo": "qr-dqn", "n_quantiles": 5,
    },
    "m-iqn under a scheduler": {
        **SMALL, "algo": "iqn", "munchausen": True, "sn_mode": "track", "sn_scheduler": "mul_eps",
        "n_quantiles": 4, "n_target_quantiles": 4, "n_acting_quantiles": 4,
    },
    "normalised batches, AdamW": {
        **SMALL, "env": "MinAtar/Breakout", "channels": "4", "normalization": "batch",
        "optimizer": "adamw", "optimizer_eps_layers": "-2: 0.001", "sn_mode": "init",
        "eval_every_timesteps": 0, "keep_best": False,
    },
    "changing dynamics": {
        **SMALL, "env": "MinAtar/Breakout", "env_changes": "120: {sticky_actions: 0.5}",
        "eval_every_timesteps": 0, "keep_best": False,
    },
    "two tasks": {
        **SMALL, "env": "MinAtar/Breakout,MinAtar/Asterix", "total_timesteps": 600,
        "eval_every_timesteps": 0, "keep_best": False, "channels": "4",
    },
}  # fmt: skip


def run_in_process(folder: Path, settings: dict[str, Any], fatal: int | None = None) -> None:
    """Trains in a folder, or goes on with what lies there; the body of a forked process.

    Args:
        folder: For `runs_dir`.
        settings: Of the configuration.
        fatal: Number of the file operation at which the process is killed.
    """
    # Its output would be mixed with pytest's.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    torch.set_num_threads(1)
    Operations(folder, fatal)
    try:
        found = the_run(folder)
        if found is None:
            train(make_config({**settings, "runs_dir": str(folder)}))
        elif "finished" not in RunFolder(found).read_provenance():  # it was killed on its way out
            resume(found)
    except TrainingStopped as stop:
        sys.exit(128 + stop.signum)


class Operations:
    """Counts the operations that change files under a folder, and kills the process at one.

    Before it is made, but for a write, of which half is made. The number so far stands in the file
    FOLDER.operations.

    Args:
        folder: The folder.
        fatal: The number of the one to die at.
    """

    CHANGING = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")

    def __init__(self, folder: Path, fatal: int | None) -> None:
        self.folder, self.fatal, self.count = folder, fatal, 0
        self.write, self.fsync = os.write, os.fsync
        os.write, os.fsync = self.watched_write, self.watched_fsync
        sys.addaudithook(self.watch)

    def is_fatal(self) -> bool:
        self.count += 1
        Path(f"{self.folder}.operations").write_text(str(self.count))
        return self.count == self.fatal

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watched_write(self, descriptor: int, data: Any) -> int:
        if self.is_fatal():
            self.write(descriptor, bytes(data)[: len(data) // 2])
            self.die()
        return self.write(descriptor, data)

    def watched_fsync(self, descriptor: int) -> None:
        if self.is_fatal():
            self.die()
        self.fsync(descriptor)

    def watch(self, event: str, arguments: Any) -> None:
        to_write = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        inside = arguments and str(arguments[0]).startswith(f"{self.folder}/")
        if (to_write or event in self.CHANGING) and inside and self.is_fatal():
            self.die()


def start(folder: Path, settings: dict[str, Any], fatal: int | None = None) -> BaseProcess:
    """Starts a process that trains, or goes on."""
    process = FORKS.Process(target=run_in_process, args=(folder, settings, fatal))
    process.start()
    return process


def finish(folder: Path, settings: dict[str, Any]) -> None:
    """Trains, or goes on, to the end."""
    process = start(folder, settings)
    process.join(300)
    assert process.exitcode == 0, f"exit code {process.exitcode}"


def n_operations(folder: Path) -> int:
    """Gives the number of operations of the last process."""
    return int((folder.parent / f"{folder.name}.operations").read_text())


def the_run(folder: Path) -> Path | None:
    """Finds the one run under a folder, unless it died before its configuration was written."""
    found = [*folder.glob("*/*/tasks.yaml"), *folder.glob("*/*/config.yaml")]
    return found[0].parent if found else None


def outcome(folder: Path) -> dict[str, Any]:
    """Everything about a finished run that an interruption must not change, hashed."""
    run = the_run(folder)
    assert run is not None
    digests = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        parts = name.split("/")
        assert not parts[-1].startswith("."), f"a temporary file is left: {name}"
        if path.is_dir() or parts[-1] in (
            "provenance.json",
            "timing.jsonl",
            "lock",
            "config.yaml",
            "tasks.yaml",
        ):
            continue
        content = path.read_bytes()
        if parts[-1] == "0.monitor.csv":
            lines = content.decode().splitlines()[2:]
            content = "\n".join(re.sub(r",[^,]*(,\d+)$", r"\1", line) for line in lines).encode()
        if parts[-1] == "manifest.json":
            content = json.dumps(_without_times(json.loads(content)), sort_keys=True).encode()
        digests[name] = hashlib.sha256(content).hexdigest()
    newest = max(name.split("/")[1] for name in digests if name.startswith("checkpoints/"))
    kept = {name.split("/")[1] for name in digests if name.startswith("checkpoints/")}
    assert len(kept) <= 2, kept
    return {
        name.replace(f"checkpoints/{newest}/", "newest/"): digest
        for name, digest in digests.items()
        if not name.startswith("checkpoints/") or name.split("/")[1] == newest
    }


def _without_times(manifest: dict[str, Any]) -> dict[str, Any]:
    for part in manifest["info"]["parts"]:
        del part["lengths"]["timing.jsonl"], part["lengths"]["0.monitor.csv"]
    manifest.pop("sha256", None)
    return manifest
