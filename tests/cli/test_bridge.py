"""Agents of Stable-Baselines3 and rl-zoo, wherever an agent is named at the shell."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import refusal
from sb3_contrib import QRDQN
from stable_baselines3 import DQN

import sndqn
from sndqn import cli
from sndqn.envs import AtariSettings, EnvSettings, make_env
from sndqn.evaluation import Trace, read_episode
from sndqn.runs.folder import RunFolder


def assert_the_model_plays_so(model: Any, trace: Trace, settings: EnvSettings) -> None:
    """Steps through a game, and asks SB3's `predict` at each observation."""
    env = make_env(settings)
    observation = env.reset(seed=trace.seed)[0]
    for action in trace.actions:
        assert int(model.predict(observation, deterministic=True)[0]) == action
        observation = env.step(int(action))[0]
    env.close()


@pytest.fixture
def zip_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=200, learning_starts=50, device="cpu")
    model.learn(152)
    (tmp_path / "mailed").mkdir()
    model.save(tmp_path / "mailed" / "cart.zip")
    return tmp_path / "mailed" / "cart.zip"


def test_a_zip_is_inspected_evaluated_replayed_and_exported(
    zip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [str(zip_file), "--env", "CartPole"]
    assert cli.main(["inspect", *told]) == 0
    assert "dqn, 152 steps" in capsys.readouterr().out
    assert cli.main(["evaluate", *told, "--episodes", "2"]) == 0
    folder = RunFolder(zip_file.with_name("cart-evaluation"))
    agent = sndqn.load(zip_file, env="CartPole")
    trace = read_episode(folder.episodes, 1)
    assert_the_model_plays_so(DQN.load(zip_file), trace, agent.description.settings)
    assert agent.evaluation is not None
    assert agent.evaluation.agent_sha256 == agent.sha256
    # What an evaluation left says the environment: it needs not be told again.
    assert cli.main(["replay", str(zip_file), "--values", "--output", "game.mp4"]) == 0
    assert cli.main(["watch", *told, "--games", "1", "--speed", "64"]) == 0
    assert "after 152 steps" in capsys.readouterr().out
    assert cli.main(["export", *told]) == 0
    assert sndqn.load(tmp_path / "cart.safetensors").sha256 == agent.sha256
    assert cli.main(["inspect", *told, "--sha256", agent.sha256]) == 0


def test_a_training_starts_from_a_zip(zip_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--env", "CartPole", "--init-from", str(zip_file), "--sn-layers", "none"]
    command += ["--total-timesteps", "60", "--learning-starts", "20", "--eval-episodes", "1"]
    command += ["--net-arch", "64,64"]
    assert cli.main(command) == 0
    assert "new layers: none" in capsys.readouterr().out
    command[2] = "Acrobot"
    assert "make an agent file of it: sndqn import-sb3" in refusal(command, capsys)


def test_what_a_zip_does_not_say_is_asked_for(
    zip_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("inspect", "evaluate", "watch", "export"):
        assert "type --env NAME" in refusal([command, str(zip_file)], capsys)
    assert "no evaluation of its own yet" in refusal(["replay", str(zip_file)], capsys)
    assert "expected --env with it" in refusal(
        ["inspect", str(zip_file), "--protocol", "sb3"], capsys
    )
    words = refusal(["inspect", str(zip_file), "--env", "CartPole", "--activation", "x"], capsys)
    assert "activation: expected" in words
    words = refusal(["inspect", str(zip_file), "--env", "Breakout"], capsys)
    assert "type --protocol sb3 if" in words
    assert not zip_file.with_name("cart-evaluation").exists()


def test_what_an_agent_says_itself_is_not_taken_from_the_command(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    words = refusal(["inspect", str(run.path), "--env", "CartPole"], capsys)
    assert "which says it itself: leave it out" in words
    words = refusal(["import-sb3", str(run.path), "--output", "x.safetensors"], capsys)
    assert "type sndqn export" in words


ZOO = """\
atari:
  env_wrapper:
    - stable_baselines3.common.atari_wrappers.AtariWrapper
  frame_stack: 4
  policy: 'CnnPolicy'
  n_timesteps: 120
  buffer_size: 200
  learning_starts: 60
CartPole-v1:
  n_timesteps: 300
  policy: 'MlpPolicy'
  learning_starts: 100
  policy_kwargs: "dict(net_arch=[32, 32], activation_fn=nn.Tanh)"
"""
TRAIN = """\
import sys
from rl_zoo3.train import train
for algo, env, more in (
    ("dqn", "CartPole-v1", ["--env-kwargs", "sutton_barto_reward:True", "--eval-freq", "150"]),
    ("qrdqn", "CartPole-v1", []),
    ("dqn", "BreakoutNoFrameskip-v4", []),
):
    sys.argv = ["train", "--algo", algo, "--env", env, "--conf-file", "conf.yml", "-f", "logs"]
    sys.argv += more or ["--eval-freq", "-1"]
    train()
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders that rl-zoo itself trained."""
    pytest.importorskip("rl_zoo3", reason="needs sndqn[dev]")
    root = tmp_path_factory.mktemp("zoo")
    (root / "conf.yml").write_text(ZOO)
    command = [sys.executable, "-W", "ignore", "-c", TRAIN]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return root / "logs"


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("dqn/CartPole-v1_1", DQN),
        ("qrdqn/CartPole-v1_1", QRDQN),
        ("dqn/BreakoutNoFrameskip-v4_1", DQN),
    ],
)
def test_a_folder_of_rl_zoo_is_inspected_evaluated_and_replayed(
    name: str,
    algorithm: Any,
    zoo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing needs to be told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    folder = zoo / name
    zip_file = folder / f"{folder.name.removesuffix('_1')}.zip"
    assert cli.main(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    assert ("protocol sb3" if "Breakout" in name else "CartPole-v1: Gymnasium") in said
    assert cli.main(["evaluate", str(folder), "--episodes", "2", "--max-steps", "40"]) == 0
    settings = sndqn.load(folder).description.settings
    trace = read_episode(folder / f"{zip_file.stem}-evaluation" / "episodes.jsonl", 0)
    model = algorithm.load(zip_file, buffer_size=1, device="cpu")
    assert_the_model_plays_so(model, trace, settings)
    assert cli.main(["replay", str(folder), "--values", "--output", "game.mp4"]) == 0
    assert Path("game.mp4").stat().st_size > 1000
    command = ["watch", str(folder), "--games", "1", "--speed", "64", "--epsilon", "0.2"]
    assert cli.main(command) == 0
    assert "game 1: return" in capsys.readouterr().out
    if isinstance(settings, AtariSettings):
        assert settings == AtariSettings(protocol="sb3", fire_reset=True)
    elif algorithm is DQN:
        assert settings.env_kwargs == {"sutton_barto_reward": True}  # type: ignore[union-attr]
        best = sndqn.load(folder / "best_model.zip")
        assert best.description.settings == settings
        assert best.description.timesteps <= 300
        assert np.isfinite(best.q_values(np.zeros(4, np.float32))).all()
