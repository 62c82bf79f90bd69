"""What can go wrong on the way ends in one clear message, and the checkpoints stay good."""

import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from killed_runs import SMALL, finish, outcome, start, the_run

from sndqn import cli
from sndqn.errors import RunFolderError, SndqnError, TrainingError
from sndqn.files.storage import Storage
from sndqn.runs.checkpoint import CheckpointStore
from sndqn.runs.lock import RunLock
from sndqn.training.callbacks import LogCallback
from sndqn.training.config import make_config
from sndqn.training.run import resume, train


class Spoilt(gymnasium.Env[Any, Any]):
    """Goes well for 150 steps, then does what it was asked to."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, how: str, render_mode: str | None = None) -> None:
        self.how, self.steps = how, 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        bad = self.steps > 150
        if bad and self.how == "crash":
            raise OSError("the simulator is gone")
        reward = np.nan if bad and self.how == "reward" else 1.0
        value = np.inf if bad and self.how in ("observation", "last observation") else 0.5
        ended = self.steps % 10 == 0 if self.how != "last observation" else bad
        return np.full(2, value, np.float32), reward, ended, False, {}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    for how in ("crash", "reward", "observation", "last observation"):
        gymnasium.register(f"Spoilt-{how.replace(' ', '-')}-v0", Spoilt, kwargs={"how": how})
    yield
    for how in ("crash", "reward", "observation", "last-observation"):
        del gymnasium.registry[f"Spoilt-{how}-v0"]


def settings(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    small = {**SMALL, "eval_every_timesteps": 0, "keep_best": False}
    return {**small, "runs_dir": str(tmp_path), "checkpoint_every_timesteps": 50, **changes}


def checkpoint_steps(folder: Path) -> list[int]:
    (run,) = [path.parent for path in folder.glob("*/*/config.yaml")]
    return [int(path.name[5:17]) for path in sorted((run / "checkpoints").glob("step-*"))]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("crash", "an environment failed: OSError: the simulator is gone\nWhere: after seed"),
        ("reward", "environment 0: expected a finite reward, found nan\nWhere: after seed"),
        ("observation", "environment 0: expected a finite observation, found [inf inf]\nWhere"),
        ("last-observation", "expected a finite observation, found [inf inf]"),
    ],
)
def test_a_bad_environment_is_named_with_the_place_where_it_can_be_found_again(
    how: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError) as stopped:
        train(make_config(settings(tmp_path, env=f"Spoilt-{how}-v0")))
    assert message in str(stopped.value)
    assert len(str(stopped.value).splitlines()) == 2
    assert checkpoint_steps(tmp_path) == [100, 150]


def spoil_weights(self: Any) -> bool:
    if self.num_timesteps == 160:
        with torch.no_grad():
            next(iter(self.model.policy.q_net.parameters())).fill_(torch.nan)
    return True


def test_weights_that_are_not_finite_end_training_within_an_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogCallback, "_on_step", spoil_weights)
    with pytest.raises(TrainingError, match=r"^step 16\d, update \d+: expected a finite loss, "):
        train(make_config(settings(tmp_path)))
    assert checkpoint_steps(tmp_path) == [100, 150]


def test_a_checkpoint_of_weights_that_are_not_finite_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogCallback, "_on_step", spoil_weights)
    # Nothing is learnt any more, so that no loss tells.
    with pytest.raises(TrainingError, match=r"^step 200: policy/.* is not finite any more"):
        train(make_config(settings(tmp_path, learning_starts=390)))
    assert checkpoint_steps(tmp_path) == [100, 150]


def test_a_second_process_on_a_run_leaves_at_once_and_says_who_holds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(tmp_path / "runs", settings(tmp_path, total_timesteps=10**6))
    while not list((tmp_path / "runs").glob("*/*/checkpoints/step-*")):
        assert process.is_alive()
    run = the_run(tmp_path / "runs")
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--resume", str(run)])
    assert stop.value.code == 2
    assert f"is in use by process {process.pid}" in capsys.readouterr().err
    process.kill()
    process.join()
    with RunLock(Path(str(run))):  # the kernel gave it back
        pass


class Full(Storage):
    """A disk without room from some operation on, for so many operations."""

    def __init__(self, first: int, last: float) -> None:
        def refuse(number: int, name: str, path: Path) -> None:
            if first <= number <= last and name in ("open", "write", "mkdir", "fsync"):
                raise OSError(28, os.strerror(28))

        super().__init__(refuse)


def with_storage(monkeypatch: pytest.MonkeyPatch, storage: Storage) -> None:
    made = CheckpointStore.__init__

    def init(self: CheckpointStore, run_path: Path, *_: Any) -> None:
        made(self, run_path, storage)

    monkeypatch.setattr(CheckpointStore, "__init__", init)


def test_a_full_disk_costs_a_checkpoint_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_storage(monkeypatch, Full(60, 63))
    train(make_config(settings(tmp_path)))
    assert checkpoint_steps(tmp_path)[-1] == 400


def test_a_disk_that_stays_full_ends_training_with_the_good_checkpoints_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_storage(monkeypatch, Full(60, float("inf")))
    with pytest.raises(RunFolderError, match="No space left on device"):
        train(make_config(settings(tmp_path)))
    monkeypatch.undo()
    (run,) = [path.parent for path in tmp_path.glob("*/*/config.yaml")]
    assert checkpoint_steps(tmp_path)
    resume(run)
    assert checkpoint_steps(tmp_path)[-1] == 400


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(tmp_path / "runs", SMALL)
    while not list((tmp_path / "runs").glob("*/*/checkpoints/step-*220/manifest.json")):
        assert process.is_alive()
    process.kill()
    process.join()
    run = the_run(tmp_path / "runs")
    assert run is not None
    (state,) = run.glob("checkpoints/step-*220/state.safetensors")
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    assert cli.main(["train", "--resume", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "Passed over a damaged checkpoint, step-000000000220" in shown
    assert "Goes on from step 110" in shown
    (tmp_path / "other").mkdir()
    finish(tmp_path / "other" / "runs", SMALL)
    assert outcome(tmp_path / "runs") == outcome(tmp_path / "other" / "runs")


@pytest.mark.parametrize("flags", ["--seed 3", "--env CartPole"])
def test_resuming_takes_the_settings_of_the_run_alone(
    flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--resume", "somewhere", *flags.split()])
    assert "leave out --" in capsys.readouterr().err


def test_a_finished_run_and_one_that_is_none_are_refused(tmp_path: Path) -> None:
    run = train(make_config(settings(tmp_path, keep_checkpoints=False)))
    assert len(list((run.path / "checkpoints").iterdir())) == 1  # the last, without its replay
    assert not (run.path / "chunks").exists()
    with pytest.raises(SndqnError, match="is finished"):
        resume(run.path)
    with pytest.raises(SndqnError, match="expected the folder of a run"):
        resume(tmp_path / "nothing")


def test_one_task_of_several_is_resumed_with_all_of_them(tmp_path: Path) -> None:
    changes = {"env": "MinAtar/Breakout,MinAtar/Asterix", "channels": "4", "eval_max_steps": 10}
    run = train(make_config(settings(tmp_path, **changes)))
    with pytest.raises(SndqnError, match="is one task of several: type sndqn train --resume"):
        resume(run.path / "MinAtar-Breakout")
    with pytest.raises(SndqnError, match="is finished"):
        resume(run.path)
