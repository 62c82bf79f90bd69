"""What a training sees and what an evaluation sees is the same environment, of any space."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from sndqn import cli
from sndqn.errors import ConfigError, ObservationError, SndqnError
from sndqn.evaluation import read_episodes, replay_trace
from sndqn.runs.folder import RunFolder
from sndqn.training.config import make_config
from sndqn.training.layers import read_layers
from sndqn.training.run import train

U8 = np.uint8
SPACES: dict[str, spaces.Space[Any]] = {
    "image": spaces.Box(0, 255, (40, 44, 3), U8),
    "small-image": spaces.Box(0, 255, (7, 7, 3), U8),
    "grey": spaces.Box(0, 255, (40, 44), U8),
    "float-image": spaces.Box(0, 255, (40, 44, 3), np.float32),
    "scalar": spaces.Box(-1, 1, ()),
    "number": spaces.Discrete(5, start=3),
    "numbers": spaces.MultiDiscrete([[3, 4], [2, 2]], start=[[1, 1], [0, 0]]),
    "bits": spaces.MultiBinary((2, 3)),
    "dict": spaces.Dict(
        {
            "last": spaces.Box(0, 255, (40, 44, 3), U8),
            "first": spaces.Box(0, 255, (3, 40, 44), U8),
            "camera.small": spaces.Box(0, 255, (7, 7, 3), U8),
            "scalar": spaces.Box(-1, 1, ()),
            "number": spaces.Discrete(5, start=-2),
        }
    ),
}
FEW: dict[str, Any] = {
    "total_timesteps": 60,
    "learning_starts": 20,
    "exploration_timesteps": 40,
    "buffer_size": 60,
    "batch_size": 4,
    "gradient_steps": 1,
    "checkpoint_every_timesteps": 30,
    "eval_every_timesteps": 30,
    "eval_episodes": 1,
    "threads": 1,
    "tensorboard": False,
    "compile": "never",
}


class Showing(gymnasium.Env[Any, Any]):
    """Random observations of a space, nine steps long."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's
    action_space = spaces.Discrete(2)

    def __init__(self, name: str = "scalar", fails: str = "", after: int = 0, **_: Any) -> None:
        self.observation_space = SPACES[name]
        self.fails, self.after, self.shown = fails, after, 0

    def _show(self) -> Any:
        self.shown += 1
        if self.fails and self.shown > self.after:
            return {"shape": np.zeros(7), "nan": np.float32(np.nan), "none": None}[self.fails]
        return self.observation_space.sample()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self._show(), float(action), self.t == 9, False, {}


class Endless(Showing):
    """Never over, and never to be seen."""

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._show(), 1.0, False, False, {}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gymnasium.register("Showing-v0", Showing)
    gymnasium.register("Endless-v0", Endless)
    yield
    for name in ("Showing-v0", "Endless-v0"):
        gymnasium.registry.pop(name)


def config_of(tmp_path: Path, **settings: Any) -> Any:
    return make_config({"env": "Showing-v0", "runs_dir": str(tmp_path), **FEW, **settings})


@pytest.mark.parametrize("name", SPACES)
def test_every_space_trains_evaluates_saves_loads_and_replays(name: str, tmp_path: Path) -> None:
    run = train(config_of(tmp_path, env_kwargs={"name": name}, n_envs=2))
    assert [len(list(replay_trace(trace))) for trace in read_episodes(run.episodes)] == [10]
    assert cli.main(["inspect", str(run.path)]) == 0


@pytest.mark.parametrize("torso", ["mlp", "impala_cnn", "minatar_cnn"])
def test_an_image_trains_with_every_torso(torso: str, tmp_path: Path) -> None:
    kwargs = {"name": "image"}
    assert train(config_of(tmp_path, env_kwargs=kwargs, torso=torso)).evaluation.is_file()


def test_layer_minus_two_of_an_image_is_the_dense_layer_of_its_cnn(tmp_path: Path) -> None:
    command = ["train", "--env", "Showing", "--env-kwargs", "{name: image}"]
    command += ["--runs-dir", str(tmp_path)]
    few = {**FEW, "eval_every_timesteps": 0}
    for key in ("tensorboard", "compile"):
        few.pop(key)
    options = [(f"--{key.replace('_', '-')}", str(value)) for key, value in few.items()]
    for algo in ("dqn", "iqn"):
        words = [*command, *itertools.chain(*options), "--algo", algo, "--sn-layers", "-2"]
        assert cli.main([*words, "--no-tensorboard", "--compile", "never"]) == 0
    for run in (tmp_path / "Showing-v0").iterdir():
        held = [row for row in read_layers(RunFolder(run))["after"] if row.bound is not None]
        assert [(row.index, row.shape[0]) for row in held] == [(-2, 512)]


@pytest.mark.parametrize("fails", ["shape", "nan", "none"])
def test_an_environment_unlike_its_space_is_refused_before_a_folder_is_made(
    fails: str, tmp_path: Path
) -> None:
    with pytest.raises(ObservationError, match=r"^Showing-v0: expected"):
        train(config_of(tmp_path, env_kwargs={"fails": fails}))
    assert not list(tmp_path.iterdir())


def test_one_that_becomes_so_later_ends_training_in_words_and_not_in_a_traceback(
    tmp_path: Path,
) -> None:
    with pytest.raises(SndqnError, match="Showing-v0: expected observations of shape"):
        train(config_of(tmp_path, env_kwargs={"fails": "shape", "after": 25}))


def test_an_evaluation_cuts_episodes_that_nothing_else_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--total-timesteps", "60", "--learning-starts", "20", "--exploration-timesteps", "40"]
    few += ["--eval-episodes", "2", "--threads", "1", "--runs-dir", str(tmp_path)]
    assert cli.main(["train", "--env", "Endless", *few]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert "no time limit of its own; evaluation episodes are cut at 1000 steps" in first
    assert sum("1000 steps (max_steps)" in line for line in rest) == 2
    run = str(next(tmp_path.glob("*/*")))
    with pytest.raises(SystemExit) as refusal:
        cli.main(["replay", run])
    assert refusal.value.code == 2
    words = capsys.readouterr().err
    assert "Endless-v0 cannot be drawn: expected the render mode rgb_array, found none" in words
    limited = ["--env-kwargs", "{max_episode_steps: 30}"]
    assert cli.main(["train", "--env", "Endless", *few, *limited]) == 0
    out = capsys.readouterr().out
    assert "its own time limit" in out
    assert out.count("30 steps (truncated)") == 2


@pytest.mark.parametrize("device", ["cuda:70", "mps"])
def test_a_device_that_is_not_there_is_refused_before_a_folder_is_made(
    device: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"^--device {device}: found"):
        train(config_of(tmp_path, device=device))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"net_arch": [2**20, 2**20]}, "no agent can be made of these settings: .* of weights"),
        ({"env_kwargs": {"name": "image"}, "torso": "impala_cnn", "width": 1024}, "no agent can"),
        ({"env_kwargs": {"name": "dict"}, "features_dim": 8}, "features_dim: torso combined takes"),
        ({"width": 2}, "width: torso mlp takes features_dim. Leave it out"),
        (
            {"env_kwargs": {"name": "image"}, "torso": "minatar_cnn", "channels": [2] * 30},
            "no agen",
        ),
        ({"buffer_size": 10**15, "total_timesteps": 10**15}, "not enough memory"),
    ],
)
def test_what_no_agent_file_or_memory_could_hold_is_refused_before_a_folder_is_made(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(config_of(tmp_path, **settings))
    assert not list(tmp_path.iterdir())
