import importlib.util

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor

from sndqn.envs import ControlSettings, make_env
from sndqn.errors import MissingExtraError, UnsupportedSpaceError


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "LunarLander-v3"])
def test_control_environments_repeat_under_a_seed(env_id):
    env = Monitor(make_env(env_id))
    results = []
    for _ in range(2):
        observation, _ = env.reset(seed=3)
        observations = [observation, *(env.step(t % 2)[0] for t in range(8))]
        results.append(np.array(observations))
    assert np.array_equal(*results)


def test_cartpole_renders():
    env = make_env("CartPole", render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (400, 600, 3)
    env.close()


def test_discrete_observations_pass_through():
    env = make_env("Taxi-v4")
    assert isinstance(env.observation_space, spaces.Discrete)
    assert env.observation_space.contains(env.reset(seed=0)[0])


def test_settings_from_elsewhere_are_checked_when_made():
    with pytest.raises(UnsupportedSpaceError, match="DQN needs Discrete actions"):
        make_env(ControlSettings(env_id="Pendulum-v1"))


@pytest.mark.skipif(importlib.util.find_spec("jax") is not None, reason="jax is installed")
def test_an_environment_whose_package_is_not_installed_says_so():
    with pytest.raises(MissingExtraError, match="jax"):
        make_env(ControlSettings(env_id="phys2d/CartPole-v1"))
