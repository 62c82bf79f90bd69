"""Trackers get a run's numbers once each, and their failure is not the run's."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sndqn.errors import MissingExtraError
from sndqn.runs import tracking
from sndqn.runs.folder import RunFolder
from sndqn.runs.tracking import Tracking, check_trackers
from sndqn.training.config_files import layered_config
from sndqn.training.run import train

SMALL: dict[str, Any] = {
    "env": "CartPole", "total_timesteps": 600, "learning_starts": 50, "net_arch": "8",
    "log_every_timesteps": 100, "eval_episodes": 1, "eval_max_steps": 20, "tensorboard": False,
    "compile": "never", "diagnostics": "none", "eval_every_timesteps": 0, "keep_best": False,
}  # fmt: skip


class Kept:
    """A tracker in memory."""

    runs: ClassVar[dict[str, list[tuple[int, Mapping[str, float]]]]] = {}

    def __init__(self, name: str, key: str | None, folder: RunFolder, settings: Any) -> None:
        self.key = key or name
        self.records = self.runs.setdefault(self.key, [])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.records.append((step, values))

    def close(self) -> None:
        self.records.append((-1, {}))


class Broken(Kept):
    """A tracker whose network is gone."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        raise ConnectionError("no route to host")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "CartPole" / "run").mkdir(parents=True)
    return RunFolder(tmp_path / "CartPole" / "run")


def test_a_resumed_run_goes_on_in_the_trackers_run_and_sends_nothing_twice(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "TRACKERS", {"wandb": Kept})
    Kept.runs = {}
    first = Tracking(["wandb"], folder, {})
    first.log(100, {"a": 1.0, "timesteps": 100, "word": "NaN"})
    first.log(200, {"a": 2})
    first.close()
    second = Tracking(["wandb"], folder, {}, sent=200)
    for step in (200, 300):
        second.log(step, {"a": float(step)})
    assert Kept.runs == {
        "CartPole/run": [(100, {"a": 1.0}), (200, {"a": 2.0}), (-1, {}), (300, {"a": 300.0})]
    }
    assert json.loads(folder.tracking.read_text()) == {"wandb": "CartPole/run"}


def test_a_tracker_that_fails_is_left_and_the_others_go_on(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "TRACKERS", {"wandb": Broken, "mlflow": Kept})
    Kept.runs = {}
    tracked = Tracking(["wandb", "mlflow"], folder, {})
    with pytest.warns(UserWarning, match="wandb is left, training goes on: ConnectionError"):
        tracked.log(1, {"a": 1.0})
    tracked.log(2, {"a": 2.0})
    assert [step for step, _ in tracked.trackers["mlflow"].records] == [1, 2]  # type: ignore[attr-defined]


def test_a_tracker_that_is_not_installed_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install wandb"):
        check_trackers(["wandb"])
    config = layered_config({**SMALL, "track": "wandb", "runs_dir": str(tmp_path / "runs")})
    with pytest.raises(MissingExtraError):
        train(config)
    assert not (tmp_path / "runs").exists()


def trained(tmp_path: Path, name: str) -> RunFolder:
    return train(layered_config({**SMALL, "track": name, "runs_dir": str(tmp_path / "runs")}))


def test_a_training_tells_its_trackers_all_its_metrics_and_its_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "TRACKERS", {"wandb": Kept})
    monkeypatch.setattr("sndqn.training.build.check_trackers", lambda names: None)
    Kept.runs = {}
    run = trained(tmp_path, "wandb")
    (records,) = Kept.runs.values()
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    for line, (step, values) in zip(lines, records, strict=False):
        assert step == line.pop("timesteps")
        assert {name: values[name] for name in line} == line
    assert records[-2][0] == 600
    assert records[-2][1].keys() == {"evaluation/mean_return"}
    assert records[-1][0] == -1


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # its own packages'
def test_wandb_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = trained(tmp_path, "wandb")
    (file,) = run.path.glob("wandb/offline-run-*/run-*.wandb")
    assert file.stat().st_size > 1000
    assert json.loads(run.tracking.read_text())["wandb"] in file.name


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # its own packages'
def test_mlflow_keeps_a_run_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    run = trained(tmp_path, "mlflow")
    key = json.loads(run.tracking.read_text())["mlflow"]
    found = mlflow.MlflowClient().get_run(key)
    assert found.data.params["total_timesteps"] == "600"
    assert found.data.metrics["evaluation/mean_return"] > 0
    assert found.info.status == "FINISHED"


def test_trackio_keeps_a_run_on_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    # A process of its own, as trackio reads where to write when it is imported.
    words = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in SMALL.items()
        if not isinstance(value, bool)
    ]
    command = [sys.executable, "-m", "sndqn.cli", "train", *words, "--no-keep-best"]
    command += ["--no-tensorboard", "--track", "trackio", "--runs-dir", str(tmp_path / "runs")]
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    (file,) = (tmp_path / "trackio").rglob("sndqn.db")
    rows = sqlite3.connect(file).execute("select run_name, metrics from metrics").fetchall()
    (key,) = (tmp_path / "runs").rglob("tracking.json")
    assert {name for name, _ in rows} == {json.loads(key.read_text())["trackio"]}
    assert "evaluation/mean_return" in json.loads(rows[-1][1])
