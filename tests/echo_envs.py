"""Environments whose observations tell what was done: which game, which step, which actions."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SHAPE = (1, 6, 6)


def length(game: int) -> int:
    return 4 + game % 7


def reward(game: int, t: int) -> float:
    return float((game * 7 + t * 3) % 5)


def after(history: int, action: int) -> int:
    """A number of all actions of a game."""
    return (history * 31 + action + 1) % 251


class Echo(gym.Env[Any, Any]):
    """Shows (environment, game, step, history) in a vector or the first pixels of an image.

    Games end by themselves or, every other one, by a time limit.
    """

    def __init__(self, number: int = 0, kind: str = "vector") -> None:
        self.number, self.kind, self.game = number, kind, 0
        self.action_space = spaces.Discrete(3)
        shape = {"vector": (4,), "image": SHAPE, "last": (6, 6, 1)}.get(kind, (4,))
        dtype: Any = np.float32 if shape == (4,) else np.uint8
        space = spaces.Box(0, 255 if dtype == np.uint8 else 1e6, shape, dtype)
        self.observation_space = spaces.Dict({"a": space}) if kind == "dict" else space

    def _observation(self) -> Any:
        numbers = [self.number, self.game, self.t, self.history]
        if self.kind in ("vector", "dict"):
            vector = np.array(numbers, np.float32)
            return {"a": vector} if self.kind == "dict" else vector
        image = np.zeros(36, np.uint8)
        # A mark of frames that are not padding, and a game's number in two bytes.
        image[:6] = [1, self.number, self.game // 256, self.game % 256, self.t, self.history]
        return image.reshape(self.observation_space.shape)  # type: ignore[arg-type]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.game += 1
        self.t = self.history = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        worth = reward(self.game, self.t)
        self.t += 1
        self.history = after(self.history, int(action))
        over = self.t == length(self.game)
        ends = over and self.game % 2 == 0
        return self._observation(), worth, ends, over and not ends, {}


def decode(observation: np.ndarray) -> tuple[int, ...]:
    """Gives (environment, game, step, history) of an observation; of a stack, the newest frame's.

    The older frames must be those before it, or zeros before the game's first.
    """
    if observation.ndim == 1:
        return tuple(np.rint(observation).astype(int).tolist())
    frames = [frame.reshape(-1)[:6].astype(int).tolist() for frame in observation]
    _, number, high, low, t, history = frames[-1]
    for age, frame in enumerate(reversed(frames)):
        fits = [1, number, high, low, t - age] == frame[:5] if age <= t else not any(frame)
        assert fits, (frames, age)
    return number, high * 256 + low, t, history


class Goals(gym.Env[Any, Any]):
    """A goal to be reached by chance, as hindsight experience replay takes it."""

    def __init__(self) -> None:
        part = spaces.Box(-9, 9, (2,), np.float32)
        names = ("observation", "achieved_goal", "desired_goal")
        self.observation_space = spaces.Dict(dict.fromkeys(names, part))
        self.action_space = spaces.Discrete(2)

    def _observation(self) -> dict[str, np.ndarray]:
        here = np.full(2, self.t, np.float32)
        goal = np.full(2, 3, np.float32)
        return {"observation": here, "achieved_goal": here, "desired_goal": goal}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self._observation(), 0.0, False, self.t == 6, {}

    def compute_reward(self, achieved: Any, desired: Any, infos: Any) -> np.ndarray:
        return -np.linalg.norm(achieved - desired, axis=-1)
