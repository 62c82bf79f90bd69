"""What a training leaves on the way, for those who watch."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sndqn.agents import load_agent
from sndqn.errors import RunFolderError
from sndqn.runs.folder import RunFolder
from sndqn.training import newest
from sndqn.training.config import make_config
from sndqn.training.run import train
from sndqn.training.task_state import TaskState

SHORT: dict[str, Any] = {
    "env": "CartPole", "total_timesteps": 200, "learning_starts": 50, "eval_episodes": 1,
    "eval_max_steps": 20, "tensorboard": False, "net_arch": "8", "sn_layers": "-2",
}  # fmt: skip


def test_the_newest_weights_are_written_on_the_way_and_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_alone = train(make_config({**SHORT, "runs_dir": str(tmp_path / "a")}))
    monkeypatch.setattr(newest, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(newest, "_TIMES_ITS_DURATION", 0)
    steps: list[int] = []
    save = TaskState.save

    def noted(state: TaskState, step: int | None = None) -> str:
        sha256 = save(state, step)
        steps.append(load_agent(state.run.agent).description.timesteps)
        return sha256

    monkeypatch.setattr(TaskState, "save", noted)
    followed = train(make_config({**SHORT, "runs_dir": str(tmp_path / "b")}))
    assert steps[0] == 0
    assert len(set(steps)) > 20
    assert steps == sorted(steps)
    for name in ("agent", "metrics", "episodes"):
        one, other = getattr(left_alone, name), getattr(followed, name)
        assert one.read_bytes() == other.read_bytes()


def test_a_file_that_cannot_be_written_is_told_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(newest, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(newest, "_TIMES_ITS_DURATION", 0)
    save, attempts = TaskState.save, []

    def full(state: TaskState, step: int | None = None) -> str:
        if 0 < state.model.num_timesteps < 200:
            attempts.append(state.model.num_timesteps)
            raise RunFolderError("the disk is full")
        return save(state, step)

    monkeypatch.setattr(TaskState, "save", full)
    run: RunFolder = train(make_config({**SHORT, "runs_dir": str(tmp_path)}), Console())
    assert len(attempts) > 20
    assert capsys.readouterr().out.count("the disk is full") == 1
    assert load_agent(run.agent).description.timesteps == 200


def test_writing_takes_half_a_percent_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(newest.time, "monotonic", lambda: now)
    spent, count = 0.0, 0

    def save() -> None:
        nonlocal now, spent, count
        now, spent, count = now + 0.05, spent + 0.05, count + 1

    callback = newest.NewestAgentCallback(save, print)
    callback._on_training_start()
    while now < 1000:
        callback._on_rollout_start()
        now += 0.01
    assert 0 < spent < 1.01 * now / 200
    assert count > 30
