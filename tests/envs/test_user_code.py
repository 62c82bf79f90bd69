"""Code that a person names runs; code that a file names does not."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import pytest

from sndqn import cli
from sndqn.envs import make_env, resolve_env, user_code
from sndqn.envs.user_code import import_typed, split_module, use_wrapper
from sndqn.errors import ConfigError, UntypedCodeError

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


FLAT = ["--wrapper", "gymnasium.wrappers:FlattenObservation"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, where a module of one's own lies."""
    (tmp_path / "corridors.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("raise ValueError('not today')")
    (tmp_path / "script.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for module in ("corridors", "broken", "script"):
        sys.modules.pop(module, None)
    gymnasium.registry.pop("corridors/Corridor-v0", None)
    user_code._wrappers.clear()


@pytest.fixture
def sndqn(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Types a command, as in a new process: nothing is imported or typed yet."""

    def run(*command: str) -> tuple[int, str]:
        gymnasium.registry.pop("corridors/Corridor-v0", None)
        sys.modules.pop("corridors", None)
        user_code._wrappers.clear()
        capsys.readouterr()
        try:
            status = cli.main(command)
        except SystemExit as end:
            status = int(end.code or 0)
        done = capsys.readouterr()
        return status, done.out + done.err

    return run


def test_an_agent_of_ones_own_environment_is_used_by_typing_its_module(
    folder: Path, sndqn: Callable[..., tuple[int, str]]
) -> None:
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


def test_a_wrapper_is_recorded_and_used_only_where_it_is_typed(
    folder: Path, sndqn: Callable[..., tuple[int, str]]
) -> None:
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
    status, said = sndqn("evaluate", run, "--import", "corridors", *wrapper[:2], *FLAT)
    assert (status, "the agent learnt without it" in said) == (2, True), said
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
    with pytest.raises(ConfigError, match=r"required.*Type --env-kwargs '\{goal: \.\.\.\}'"):
        resolve_env("corridors:corridors/Corridor-v0")
    settings = resolve_env("corridors:corridors/Corridor-v0", env_kwargs={"goal": [3]})
    assert (settings.name, settings.modules) == ("corridors/Corridor-v0", ["corridors"])
    gymnasium.registry.pop("corridors/Corridor-v0")
    sys.modules.pop("corridors")
    with pytest.raises(UntypedCodeError, match=r"only if you type it: --import corridors$"):
        resolve_env("corridors/Corridor-v0", modules=["corridors"])
    with pytest.raises(UntypedCodeError, match="is registered by the module corridors"):
        make_env(settings)
