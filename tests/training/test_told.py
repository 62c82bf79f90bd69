"""What someone says of an agent that Stable-Baselines3 saved: checked as settings are."""

from typing import Any

import pytest

from sndqn.agents.told import Told
from sndqn.envs import AtariSettings, ControlSettings
from sndqn.errors import ConfigError, EnvironmentNameError, UntypedCodeError
from sndqn.training.told import tell


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Told()),
        ({"activation": "tanh", "v_min": -1.0}, Told(activation="tanh", v_min=-1.0)),
        (
            {"env": "cartpole", "env_kwargs": {"sutton_barto_reward": True}, "sn_mode": "shrink"},
            Told(ControlSettings(env_kwargs={"sutton_barto_reward": True}), sn_mode="shrink"),
        ),
        (
            {"env": "Pong", "protocol": "sb3"},
            Told(AtariSettings(game="pong", protocol="sb3", fire_reset=True)),
        ),
    ],
)
def test_names_and_values_are_those_of_settings(given: dict[str, Any], expected: Told) -> None:
    assert tell(given) == expected


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"environment": "CartPole"}, ConfigError, "expected env, protocol"),
        ({"env": "CartPoel"}, EnvironmentNameError, "did you mean CartPole"),
        ({"env": "Pong"}, ConfigError, "type --protocol sb3 if"),
        ({"env": "CartPole", "protocol": "sb3"}, ConfigError, "no protocol 'sb3'"),
        ({"protocol": "sb3"}, ConfigError, "expected --env with it"),
        ({"activation": "sigmoid"}, ConfigError, "activation: expected"),
        ({"env": "CartPole", "sn_mode": "x"}, ConfigError, "sn_mode: expected"),
    ],
)
def test_others_are_refused(given: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        tell(given)


def test_a_wrapper_that_nobody_allowed_is_refused() -> None:
    name = "gymnasium.wrappers:RecordEpisodeStatistics"
    with pytest.raises(UntypedCodeError, match="runs only if you type it"):
        tell({"env": "CartPole"}, wrappers=[name])
