"""A run's folder: what is in it, and where the run came from.

config.yaml            every setting, ready for --config
tasks.yaml             in its place, where the run has several tasks, each with its own folder
provenance.json        command, versions, commit, machine, times
layers.json            σ of every layer, before and after
metrics.jsonl          one line per record
timing.jsonl           what the clock said at each
tracking.json          its names at trackers, where it has any
diagnostics.jsonl      one line per measurement of the networks, if there are any
probe.npz              the states they are measured on
0.monitor.csv          return and length of each training game
evaluations.npz        of each episode of the evaluations on the way
tensorboard/           the same, for TensorBoard
checkpoints/, chunks/  to go on from; of a finished run the last one, without its replay
earlier/N-steps/       the agent, layers and evaluation that training left at an earlier end
lock                   held by the process that trains
agent.safetensors      the agent, without code; in training the agent so far
evaluation.json        the final evaluation
episodes.jsonl         its episodes: one line each, a trace that proves it
evaluations/NAME/      later evaluations, each with its episodes
phase-N/               evaluation and episodes under an earlier phase's settings, if they change
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from sndqn.errors import RunFolderError, SeveralRunsError
from sndqn.files.atomic import TEMPORARY

# A name for settings, and for agents trained with them.
TITLE = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,39}$"

_PACKAGES = (
    "sndqn",
    "torch",
    "stable-baselines3",
    "gymnasium",
    "ale-py",
    "minatar",
    "box2d",
    "numpy",
    "safetensors",
)


def default_runs_dir() -> str:
    """Returns the folder for runs where none is named: SNDQN_RUNS_DIR, or "runs"."""
    return os.environ.get("SNDQN_RUNS_DIR") or "runs"


class RunFolder:
    """The folder of one training run.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, runs_dir: str, env_name: str, label: str) -> "RunFolder":
        """Makes a new folder, runs_dir/ENV/LABEL-TIME.

        Raises:
            RunFolderError: It cannot be made.
        """
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", env_name)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
            path = Path(runs_dir) / slug / f"{label}-{stamp}{suffix}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if path.is_dir():
                    continue
                raise RunFolderError(
                    f"--runs-dir: {path.parent} is not a folder. Type another one"
                ) from None
            except OSError as error:
                raise RunFolderError(
                    f"--runs-dir: cannot make a folder in {runs_dir!r} ({error.strerror}). "
                    "Type one that you may write to"
                ) from None
            return cls(path)
        raise RunFolderError(f"--runs-dir: no free name for a run in {runs_dir!r}")

    @classmethod
    def at(cls, path: Path) -> "RunFolder":
        """Makes the folder of this path, unless it is there.

        Raises:
            RunFolderError: It cannot be made.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"cannot make {path}: {error.strerror}") from None
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Opens an existing run; a folder that holds exactly one run will do.

        Raises:
            RunFolderError: There is no run.
        """
        root = Path(path)
        if (root / "config.yaml").is_file():
            return cls(root)
        inside = (
            sorted(found.parent for found in root.glob("*/config.yaml")) if root.is_dir() else []
        )
        if len(inside) == 1:
            return cls(inside[0])
        if inside and (root / "tasks.yaml").is_file():
            raise SeveralRunsError(
                f"{root} is a run of {len(inside)} tasks: type one of {', '.join(map(str, inside))}"
            )
        if inside:
            newest = max(inside, key=lambda run: run.stat().st_mtime)
            raise SeveralRunsError(
                f"{root} holds {len(inside)} runs: name one of them, such as {newest}"
            )
        raise RunFolderError(
            f"expected the folder of a run, with a config.yaml, found none at {root}: "
            "give one that `sndqn train` made"
        )

    @classmethod
    def open_unfinished(cls, path: str | Path) -> "RunFolder":
        """Opens a run, of one task or several, whose training or evaluation did not end.

        Raises:
            RunFolderError: There is none; it is finished; or it is one task of several.
        """
        run = cls._open_whole(path, "--resume")
        if "finished" in run.read_provenance():
            file = run.tasks if run.tasks.is_file() else run.config
            raise RunFolderError(
                f"{run.path} is finished: expected one that was interrupted. Type sndqn train "
                f"--more STEPS {run.path} to go on with it, or --config {file} to train another"
            )
        return run

    @classmethod
    def open_finished(cls, path: str | Path) -> "RunFolder":
        """Opens a run, of one task or several, that is finished.

        Raises:
            RunFolderError: There is none; it is not finished; or it is one task of several.
        """
        run = cls._open_whole(path, "--more STEPS")
        if "finished" not in run.read_provenance():
            raise RunFolderError(
                f"{run.path} is not finished: bring it to its end first, by sndqn train --resume "
                f"{run.path}"
            )
        return run

    @classmethod
    def _open_whole(cls, path: str | Path, option: str) -> "RunFolder":
        root = Path(path)
        run = cls(root) if (root / "tasks.yaml").is_file() else cls.open(root)
        if (run.path.parent / "tasks.yaml").is_file():
            raise RunFolderError(
                f"{run.path} is one task of several: type sndqn train {option} {run.path.parent}"
            )
        return run

    def is_begun(self) -> bool:
        """Returns whether its settings are written, so that there is something to go on with."""
        return (self.path / "config.yaml").is_file() or (self.path / "tasks.yaml").is_file()

    def clean(self) -> None:
        """Removes the files that an interrupted process was writing."""
        for path in self.path.rglob(f"{TEMPORARY}*"):
            if path.is_file():  # what a checkpoint left is a folder, and the store's to remove
                path.unlink(missing_ok=True)

    def read_provenance(self) -> dict[str, Any]:
        """Reads provenance.json; {} where there is none yet."""
        try:
            found = json.loads(self.provenance.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self.provenance}: not readable: {error}") from None
        return found if isinstance(found, dict) else {}

    config = property(lambda self: self.path / "config.yaml")
    tasks = property(lambda self: self.path / "tasks.yaml")
    provenance = property(lambda self: self.path / "provenance.json")
    layers = property(lambda self: self.path / "layers.json")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    timing = property(lambda self: self.path / "timing.jsonl")
    games = property(lambda self: self.path / "0.monitor.csv")
    diagnostics = property(lambda self: self.path / "diagnostics.jsonl")
    probe = property(lambda self: self.path / "probe.npz")
    curve = property(lambda self: self.path / "evaluations.npz")
    tensorboard = property(lambda self: self.path / "tensorboard")
    tracking = property(lambda self: self.path / "tracking.json")
    agent = property(lambda self: self.path / "agent.safetensors")
    evaluation = property(lambda self: self.path / "evaluation.json")
    episodes = property(lambda self: self.path / "episodes.jsonl")
    evaluations = property(lambda self: self.path / "evaluations")
    videos = property(lambda self: self.path / "videos")

    def task(self, name: str) -> "RunFolder":
        """Makes the folder of one task of several, a run of its own."""
        return self._inside(re.sub(r"[^A-Za-z0-9._-]+", "-", name))

    def earlier(self, timesteps: int) -> "RunFolder":
        """Names the folder for what training left at an earlier end; it is not made."""
        return RunFolder(self.path / "earlier" / f"{timesteps}-steps")

    def phase(self, index: int) -> "RunFolder":
        """Makes the folder for what belongs to an earlier phase of a changing environment."""
        return self._inside(f"phase-{index}")

    def _inside(self, name: str) -> "RunFolder":
        return RunFolder.at(self.path / name)


def provenance() -> dict[str, Any]:
    """Describes what a run is made with: command, versions, commit and machine."""
    import torch

    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": ["sndqn", *sys.argv[1:]],
        "started": now(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions,
        "commit": _commit(),
    }


@cache
def _commit() -> str | None:
    """Returns the commit of the git checkout that sndqn is run from; None where it is installed.

    "-dirty" at its end: tracked files were changed since.
    """
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    describe = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    # Within a git hook GIT_DIR names another repository.
    environment = {name: at for name, at in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            describe, cwd=checkout, env=environment, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):  # no git, or not ours to read
        return None
    return done.stdout.strip()


def now() -> str:
    """Returns the date and time with its zone, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def differences(before: dict[str, Any]) -> list[str]:
    """Says, a line each, in what this machine and its packages differ from a run's provenance."""
    here = provenance()
    lines = []
    for name in ("python", "platform", "cpus", "torch_threads", "cuda", "commit"):
        if name in before and before[name] != here[name]:
            lines.append(f"{name} is {here[name]}, was {before[name]}")
    for package, version in before.get("versions", {}).items():
        if here["versions"].get(package) != version:
            lines.append(f"{package} is {here['versions'].get(package)}, was {version}")
    return lines
