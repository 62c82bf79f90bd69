"""Changing dynamics: the change reaches the emulator, and every phase is evaluated.

And evaluations on the way: a signal within one, and who reads their curve.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import sndqn
from sndqn.console import EpisodeCount
from sndqn.envs import EnvSettings, make_vec_env, resolve_env
from sndqn.envs.journal import JournalVecEnv
from sndqn.evaluation import evaluate
from sndqn.runs.folder import RunFolder
from sndqn.training import build
from sndqn.training.callbacks import EnvChanges
from sndqn.training.config import make_config
from sndqn.training.run import resume, train
from sndqn.training.signals import TrainingStopped


def journaled(settings: EnvSettings, seed: int) -> JournalVecEnv:
    return JournalVecEnv(make_vec_env(settings, 1), seed)


def frames(settings: EnvSettings, seed: int, n_steps: int = 40) -> list[Any]:
    """What an environment shows under a fixed script of actions."""
    env = journaled(settings, seed)
    shown = [env.reset()]
    shown += [env.step(np.array([step % 3]))[0].copy() for step in range(n_steps)]
    env.close()
    return shown


def play_through(phases: dict[int, EnvSettings], n_steps: int) -> list[Any]:
    """What a training sees of an environment that changes; every action follows the script."""
    env = journaled(phases[0], 0)
    model = sndqn.DQN(
        "SNMlpPolicy", env, learning_starts=10**6, train_freq=1, buffer_size=1000, seed=0,
        policy_kwargs={"net_arch": [8]},
    )  # fmt: skip
    seen: list[Any] = []
    step = 0

    def sample(*_: Any, **__: Any) -> Any:
        nonlocal step
        seen.append(np.array(model._last_obs))
        step += 1
        action = np.array([(step - 1) % 3])
        return action, action

    model._sample_action = sample  # type: ignore[method-assign]
    model.learn(n_steps, EnvChanges(phases, Console(quiet=True)))
    assert model.env is not None
    model.env.close()
    return seen


@pytest.mark.parametrize("name", ["MinAtar/Breakout", "Pong"])
def test_from_its_step_on_the_training_environment_has_the_new_stickiness(name: str) -> None:
    calm = {"noop_max": 0} if name == "Pong" else {}
    still = resolve_env(name, sticky_actions=0.0, **calm)
    sticky = resolve_env(name, sticky_actions=0.9, **calm)
    n = 41
    seen = play_through({0: still, n: sticky}, 2 * n)
    expected = frames(still, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(seen[:n], expected, strict=True))
    # The second phase is another environment, from its start, seeded with the next seed.
    again = [frames(settings, seed=1) for settings in (sticky, still)]
    second = seen[n:]
    script = n % 3  # where in the script of actions the second phase begins
    assert np.array_equal(second[0], again[0][0])
    if script == 2:  # the scripts differ: compare by the environment's own law instead
        env = journaled(sticky, 1)
        env.reset()
        replayed = [env.step(np.array([(n + k) % 3]))[0].copy() for k in range(n - 1)]
        env.close()
        assert all(np.array_equal(a, b) for a, b in zip(second[1:], replayed, strict=True))
        env = journaled(still, 1)
        env.reset()
        unlike = [env.step(np.array([(n + k) % 3]))[0].copy() for k in range(n - 1)]
        env.close()
        assert not all(np.array_equal(a, b) for a, b in zip(second[1:], unlike, strict=True))


def test_a_run_is_evaluated_in_every_phase(tmp_path: Path) -> None:
    config = make_config(
        {
            "env": "MinAtar/Breakout", "total_timesteps": 400, "learning_starts": 100,
            "env_changes": "200: {sticky_actions: 0.5}\n300: {difficulty_ramping: false}",
            "eval_every_timesteps": 200, "eval_episodes": 2, "eval_max_steps": 50,
            "runs_dir": str(tmp_path), "compile": "never",
        }
    )  # fmt: skip
    run = train(config)
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    evaluated = [record for record in records if "eval/mean_return" in record]
    assert len(evaluated) == 2
    assert all(f"eval/phase_{i}/mean_return" in evaluated[0] for i in range(3))
    assert evaluated[0]["eval/mean_return"] == evaluated[0]["eval/phase_1/mean_return"]
    stickiness = [
        json.loads(folder.evaluation.read_text())["settings"]["sticky_actions"]
        for folder in (run.phase(0), run.phase(1), run)
    ]
    assert stickiness == [0.1, 0.5, 0.5]


def test_a_signal_within_an_evaluation_on_the_way_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {
        "env": "CartPole", "total_timesteps": 300, "learning_starts": 50, "net_arch": "8",
        "eval_every_timesteps": 100, "eval_episodes": 3, "eval_max_steps": 40, "keep_best": True,
        "threads": 1, "tensorboard": False, "compile": "never",
    }  # fmt: skip
    whole = train(make_config({**values, "runs_dir": str(tmp_path / "whole")}))

    class Signalling(EpisodeCount):
        def on_step(self, episode: int, steps: int) -> None:
            if self.steps == 25:  # of the first evaluation: games are under way
                signal.raise_signal(signal.SIGTERM)
            super().on_step(episode, steps)

    with monkeypatch.context() as patch:
        patch.setattr(build, "EpisodeCount", Signalling)
        with pytest.raises(TrainingStopped):
            train(make_config({**values, "runs_dir": str(tmp_path / "stopped")}))
    (folder,) = (tmp_path / "stopped").glob("*/*")
    assert not RunFolder(folder).curve.exists()
    resumed = resume(folder)
    assert resumed.agent.read_bytes() == whole.agent.read_bytes()
    assert resumed.metrics.read_bytes() == whole.metrics.read_bytes()
    with np.load(resumed.curve) as one, np.load(whole.curve) as other:
        assert one["results"].shape == (3, 3)
        assert all(np.array_equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize(("env", "ends"), [("Pong", True), ("CartPole", False)])
def test_hopeless_games_of_atari_end_early_in_evaluations_on_the_way_alone(
    env: str, ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocols = []

    def noted(*arguments: Any, **more: Any) -> Any:
        protocols.append(arguments[2])
        return evaluate(*arguments, **more)

    monkeypatch.setattr(build, "evaluate", noted)
    values = {"env": env, "total_timesteps": 60, "learning_starts": 40, "buffer_size": 100}
    more = {"eval_every_timesteps": 30, "eval_episodes": 1, "eval_max_steps": 5, "batch_size": 4}
    run = train(make_config({**values, **more, "runs_dir": str(tmp_path), "tensorboard": False}))
    assert [protocol.end_hopeless for protocol in protocols] == [ends, ends]
    assert "end_hopeless" not in json.loads(run.evaluation.read_text())["protocol"]


@pytest.mark.slow
def test_the_zoos_plots_read_the_curve(tmp_path: Path) -> None:
    values = {"env": "CartPole", "total_timesteps": 300, "learning_starts": 50, "eval_episodes": 3}
    more = {"eval_every_timesteps": 100, "eval_max_steps": 40, "compile": "never"}
    run = train(make_config({**values, **more, "runs_dir": str(tmp_path / "runs")}))
    # The zoo looks in FOLDER/ALGORITHM/ENVIRONMENT_NUMBER.
    folder = tmp_path / "logs" / "dqn" / "CartPole-v1_1"
    folder.mkdir(parents=True)
    shutil.copy(run.curve, folder)
    command = [sys.executable, "-m", "rl_zoo3.plots.all_plots", "--no-display", "-a", "dqn"]
    command += ["-e", "CartPole-v1", "-f", str(tmp_path / "logs"), "-l", "ours"]
    plotting = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(command, env=plotting, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(run.curve) as curve:
        last = curve["results"][-1].mean()
    assert f"{last:.0f} +/- 0" in done.stdout
