import re
import subprocess
import sys

import pytest

from sndqn.envs import AtariSettings, ControlSettings, MinAtarSettings, resolve_env
from sndqn.errors import ConfigError, EnvironmentNameError, UnsupportedSpaceError


@pytest.mark.parametrize(
    ("name", "game"),
    [
        ("Breakout", "breakout"),
        ("breakout", "breakout"),
        ("MsPacman", "ms_pacman"),
        ("ms_pacman", "ms_pacman"),
        ("ms-pacman", "ms_pacman"),
        ("ALE/Breakout-v5", "breakout"),
        ("BreakoutNoFrameskip-v4", "breakout"),
        ("BreakoutNoFrameskip-v0", "breakout"),
        ("TicTacToe3D", "tic_tac_toe_3d"),
        ("Blackjack", "blackjack"),
    ],
)
def test_atari_names_stand_for_the_game_under_nature(name, game):
    assert resolve_env(name) == AtariSettings(game=game)


def test_every_settings_name_resolves_to_the_settings():
    for name in ("UpNDown", "Qbert", "MinAtar/SpaceInvaders", "CartPole-v1", "LunarLander-v3"):
        assert resolve_env(name).name == name


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("MinAtar/Breakout", MinAtarSettings()),
        ("minatar/breakout", MinAtarSettings()),
        ("MinAtar/Breakout-v0", MinAtarSettings()),
        ("MinAtar/Breakout-v1", MinAtarSettings(minimal_actions=True)),
        ("MinAtar/SpaceInvaders", MinAtarSettings(game="space_invaders")),
        ("minatar/space_invaders", MinAtarSettings(game="space_invaders")),
        ("CartPole", ControlSettings()),
        ("cartpole", ControlSettings()),
        ("CartPole-v1", ControlSettings()),
        ("LunarLander", ControlSettings(env_id="LunarLander-v3")),
        ("Acrobot", ControlSettings(env_id="Acrobot-v1")),
        ("MountainCar", ControlSettings(env_id="MountainCar-v0")),
        ("mountain_car", ControlSettings(env_id="MountainCar-v0")),
        ("Taxi-v4", ControlSettings(env_id="Taxi-v4")),
    ],
)
def test_names_of_the_other_suites(name, settings):
    assert resolve_env(name) == settings


@pytest.mark.parametrize("name", ["Breakout-v4", "Breakout-v0", "BreakoutDeterministic-v4"])
def test_a_skipping_id_under_a_skipping_protocol_is_refused(name):
    with pytest.raises(EnvironmentNameError, match=r"16 frames per step\. Type Breakout"):
        resolve_env(name)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("Brekout", "did you mean Breakout"),
        ("Breakout-v5", "did you mean Breakout"),
        ("ALE/Brekout-v5", "did you mean Breakout"),
        ("MinAtar/Brekout", "did you mean MinAtar/Breakout"),
        ("MinAtar/Pong", "No environment"),
        ("CartPol", "did you mean CartPole"),
        ("qwertyuiop", "type an Atari game"),
        ("", "type an Atari game"),
        ("combat", "No environment"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(name, suggestion):
    with pytest.raises(EnvironmentNameError, match=re.escape(suggestion)):
        resolve_env(name)


@pytest.mark.parametrize("name", ["Pendulum", "MountainCarContinuous-v0"])
def test_continuous_actions_are_refused(name):
    with pytest.raises(UnsupportedSpaceError, match="DQN needs Discrete actions"):
        resolve_env(name)


def test_observations_that_no_network_takes_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="Observations must be"):
        resolve_env("Blackjack-v1")


def test_the_environment_is_checked_with_the_arguments_it_is_made_with():
    settings = resolve_env("CarRacing-v3", env_kwargs={"continuous": False})
    assert settings.env_kwargs == {"continuous": False}
    with pytest.raises(UnsupportedSpaceError, match="DQN needs Discrete actions"):
        resolve_env("CarRacing-v3")


def test_protocols_set_the_fields_they_are_known_for():
    machado = resolve_env("Breakout", "machado")
    assert machado == AtariSettings(
        protocol="machado", sticky_actions=0.25, noop_max=0, life_loss=False
    )
    assert resolve_env("Breakout", "sb3") == AtariSettings(protocol="sb3", fire_reset=True)


def test_overrides_change_fields_and_none_changes_nothing():
    settings = resolve_env("Breakout", "machado", sticky_actions=0.1, noop_max=None)
    assert settings.sticky_actions == 0.1
    assert settings.noop_max == 0
    assert resolve_env("MinAtar/Breakout-v1", minimal_actions=False) == MinAtarSettings()
    assert resolve_env("CartPole", fire_reset=None) == ControlSettings()


@pytest.mark.parametrize(
    ("name", "protocol", "overrides", "message"),
    [
        ("CartPole", "nature", {}, "no protocol 'nature'; choose from gymnasium"),
        ("Breakout", "minatar", {}, "choose from nature, machado, sb3"),
        ("CartPole", None, {"fire_reset": True}, "no setting fire_reset; it has env_kwargs"),
        ("MinAtar/Breakout", None, {"frame_skip": 2}, "it has sticky_actions, difficulty"),
        ("Breakout", None, {"game": "pong"}, "no setting game"),
        ("Breakout", None, {"noop_max": -1}, "noop_max: expected between"),
    ],
)
def test_what_a_suite_does_not_have_is_refused(name, protocol, overrides, message):
    with pytest.raises(ConfigError, match=message):
        resolve_env(name, protocol, **overrides)


def run_python(code):
    """Run code in a fresh interpreter, where packages can be missing or not yet imported."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [("minatar", "MinAtar/Breakout", "minatar"), ("Box2D", "LunarLander", "box2d")],
)
def test_a_missing_package_is_named_with_its_extra(module, name, extra):
    message = run_python(
        f"import sys; sys.modules[{module!r}] = None\n"
        "from sndqn.envs import resolve_env\n"
        "from sndqn.errors import MissingExtraError\n"
        f"try: resolve_env({name!r})\n"
        "except MissingExtraError as error: print(error)"
    )
    assert f'pip install "sndqn[{extra}]"' in message


def test_importing_and_resolving_draw_in_no_heavy_package():
    loaded = run_python(
        "import sys, sndqn.envs\n"
        "heavy = ['torch', 'stable_baselines3', 'minatar', 'matplotlib', 'seaborn']\n"
        "print([m for m in [*heavy, 'ale_py', 'gymnasium'] if m in sys.modules])\n"
        "sndqn.envs.make_env('MinAtar/Breakout').reset()\n"
        "sndqn.envs.make_env('Pong').reset()\n"
        "sndqn.envs.make_env('CartPole').reset()\n"
        "print([m for m in heavy if m in sys.modules])\n"
    )
    assert loaded.split() == ["[]", "[]"]
