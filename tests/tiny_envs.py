"""Environments small enough to train on in a test: any observation, a reward for one action."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv


class TinyEnv(gym.Env[Any, Any]):
    """Random observations of any space, 10 steps long; action 0 is worth 1."""

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        reward = float(action == 0)
        return self.observation_space.sample(), reward, self.t == 10, False, {}


def make_env(kind: str) -> gym.Env[Any, Any]:
    if kind == "mlp":
        return gym.make("CartPole-v1")
    if kind == "cnn":
        return TinyEnv(spaces.Box(0, 255, (1, 36, 36), np.uint8))
    pictures, numbers = spaces.Box(0, 255, (1, 36, 36), np.uint8), spaces.Box(-1, 1, (4,))
    return TinyEnv(spaces.Dict({"image": pictures, "vector": numbers}))


def make_vec_env(kind: str, n_envs: int = 1) -> DummyVecEnv:
    one: Callable[[], gym.Env[Any, Any]] = lambda: make_env(kind)  # noqa: E731
    return DummyVecEnv([one] * n_envs)
