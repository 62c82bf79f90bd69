"""Code that a person names runs; code that a file names does not."""

import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from sndqn.envs import make_env, resolve_env
from sndqn.envs.typed import import_typed, split_module, use_wrapper
from sndqn.errors import ConfigError, EnvironmentNameError

MODULE = """
import gymnasium, numpy
open("imported", "w").close()

class Corridor(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (2,), numpy.float32)
    action_space = gymnasium.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, goal, render_mode=None):
        self.goal, self.render_mode = goal, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0.0
        return numpy.array([self.x, 0], numpy.float32), {}

    def step(self, action):
        self.x += 2 * int(action) - 1
        ended = abs(self.x) >= self.goal[0]
        return numpy.array([self.x, 1], numpy.float32), float(self.x > 0), ended, False, {}

    def render(self):
        return numpy.full((64, 64, 3), 99, numpy.uint8)

class Negated(gymnasium.ObservationWrapper):
    def observation(self, observation):
        return -observation

class Sized(gymnasium.Wrapper):
    def __init__(self, env, size):
        super().__init__(env)

no_wrapper = 3
gymnasium.register("corridors/Corridor-v0", Corridor, max_episode_steps=20)
"""
FEW = ["--total-timesteps", "80", "--learning-starts", "40", "--exploration-timesteps", "60"]
FEW += ["--eval-episodes", "1", "--no-tensorboard", "--threads", "1"]
GOAL = ["--env-kwargs", "{goal: [4, {way: east}]}"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where a module of one's own lies."""
    (tmp_path / "corridors.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("raise ValueError('not today')")
    (tmp_path / "script.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sndqn(*command: str) -> tuple[int, str]:
    """Types a command in a new process, where nothing is imported yet."""
    done = subprocess.run(
        [sys.executable, "-m", "sndqn.cli", *command], capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_an_agent_of_ones_own_environment_is_used_by_typing_its_module(folder: Path) -> None:
    status, said = sndqn("train", "--env", "corridors:corridors/Corridor-v0", *GOAL, *FEW)
    assert status == 0, said
    (folder / "imported").unlink()
    run = str(next((folder / "runs").glob("*/*")))
    for command in ("inspect", "evaluate", "replay", "export"):
        status, said = sndqn(command, run)
        assert (status, said.count("\n")) == (2, 1), said
        assert "--import corridors" in said
    assert not (folder / "imported").exists()
    for command in ("inspect", "evaluate", "replay", "export"):
        status, said = sndqn(command, run, "--import", "corridors")
        assert status == 0, said


def test_a_wrapper_is_recorded_and_used_only_where_it_is_typed(folder: Path) -> None:
    wrapper = ["--wrapper", "corridors:Negated", "--wrapper", "gymnasium.wrappers:ClipReward"]
    env = ["--import", "corridors", "--env", "corridors/corridor", *GOAL]
    status, said = sndqn("train", *env, *wrapper, *FEW)
    assert status == 2  # ClipReward wants bounds
    assert "cannot be made with corridors/Corridor-v0 alone" in said
    assert not (folder / "runs").exists()
    status, said = sndqn("train", *env, *wrapper[:2], *FEW)
    assert status == 0, said
    assert "wrapped in corridors:Negated" in said
    run = str(next((folder / "runs").glob("*/*")))
    status, said = sndqn("replay", run, "--import", "corridors")
    assert status == 2
    assert "runs only if you type it: --wrapper corridors:Negated" in said
    status, said = sndqn("replay", run, "--import", "corridors", *wrapper[:2])
    assert (status, "replayed exactly" in said) == (0, True), said


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("corridorz", "found no module 'corridorz', neither installed nor in this folder"),
        ("corridors.py", "type corridors$"),
        ("./corridors.py", "expected a module"),
        ("broken", "importing broken failed: ValueError: not today"),
        ("script", "importing script failed: SystemExit: 3"),
        ("", "expected a module"),
    ],
)
def test_a_module_that_cannot_be_imported_is_refused(
    folder: Path, module: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        import_typed(module)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("corridors", "expected module:Class"),
        ("corridors:Nothing", "corridors has no 'Nothing'"),
        ("corridors:no_wrapper", r"expected a class of gymnasium\.Wrapper"),
        ("corridors:Corridor", r"expected a class of gymnasium\.Wrapper"),
        ("nowhere:Class", "--wrapper: found no module 'nowhere'"),
    ],
)
def test_a_name_that_is_no_wrapper_is_refused(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        use_wrapper(name)


def test_a_wrapper_stands_around_every_environment_of_its_settings() -> None:
    use_wrapper("gymnasium.wrappers:FlattenObservation")
    settings = resolve_env("Blackjack-v1", wrappers=["gymnasium.wrappers:FlattenObservation"])
    assert make_env(settings).observation_space.shape == (32 + 11 + 2,)
    use_wrapper("gymnasium.wrappers:NormalizeReward")
    wrapped = resolve_env("MinAtar/Breakout", wrappers=["gymnasium.wrappers:NormalizeReward"])
    assert make_env(wrapped).get_wrapper_attr("return_rms").mean == 0
    with pytest.raises(ConfigError, match="which takes no wrapper"):
        resolve_env("Breakout", wrappers=["gymnasium.wrappers:NormalizeReward"])


def test_the_module_before_a_colon_is_imported_as_gymnasium_does(folder: Path) -> None:
    assert split_module("CartPole") == (None, "CartPole")
    try:
        with pytest.raises(ConfigError, match=r"required.*Type --env-kwargs '\{goal: \.\.\.\}'"):
            resolve_env("corridors:corridors/Corridor-v0")
        settings = resolve_env("corridors:corridors/Corridor-v0", env_kwargs={"goal": [3]})
        assert (settings.name, settings.modules) == ("corridors/Corridor-v0", ["corridors"])
    finally:
        gymnasium.registry.pop("corridors/Corridor-v0", None)
        sys.modules.pop("corridors", None)
    with pytest.raises(EnvironmentNameError, match="is registered by the module corridors"):
        make_env(settings)
