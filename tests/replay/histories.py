"""Histories for replay buffers: random games, and what Stable-Baselines3 makes of real ones."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

Step = tuple[Any, Any, Any, Any, Any, list[dict[str, Any]]]


@dataclass
class RandomGames:
    """Games of random frames from a few values, so that some are equal by chance, or all zero.

    Attributes:
        space: Observations; for stacks a Box whose first dimension is a multiple of frame_stack.
        padding: What precedes a game's first frame, "zeros" or "repeat".
        p_end: How likely a step terminates a game, or truncates it, or loses a life, or is
            followed by a reset within the game; each.
    """

    space: spaces.Space[Any]
    n_envs: int = 1
    frame_stack: int = 1
    padding: str = "zeros"
    p_end: float = 0.1
    seed: int = 0
    n_actions: int = 3
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.stacks = [self.first() for _ in range(self.n_envs)]

    def frame(self) -> Any:
        shape = self.space.shape or ()
        if self.frame_stack > 1:
            shape = (shape[0] // self.frame_stack, *shape[1:])
        values = self.rng.integers(0, 2 if self.rng.random() < 0.8 else 1, shape)
        if self.space.dtype == np.float32:
            return (values * self.rng.normal(size=shape)).astype(np.float32)
        return values.astype(self.space.dtype)

    def first(self) -> Any:
        frame = self.frame()
        if self.frame_stack == 1:
            return frame
        before = np.zeros_like(frame) if self.padding == "zeros" else frame
        return np.concatenate([before] * (self.frame_stack - 1) + [frame])

    def moved(self, stack: Any) -> Any:
        frame = self.frame()
        return frame if self.frame_stack == 1 else np.concatenate([stack[len(frame) :], frame])

    def step(self) -> Step:
        before, after = list(self.stacks), []
        dones, infos = np.zeros(self.n_envs, np.bool_), []
        for i in range(self.n_envs):
            moved, first = self.moved(before[i]), self.first()
            kinds = ["goes on", "ends", "times out", "loses a life", "is left"]
            kind = self.rng.choice(kinds, p=[1 - 4 * self.p_end] + [self.p_end] * 4)
            dones[i] = kind in ("ends", "times out", "loses a life")
            infos.append({"TimeLimit.truncated": kind == "times out"})
            self.stacks[i] = moved if kind in ("goes on", "loses a life") else first
            # A game's last observation need not fit: some wrappers give the next game's first.
            anything = dones[i] and self.rng.random() < 0.5
            after.append(first if anything else moved)
        actions = self.rng.integers(0, self.n_actions, self.n_envs)
        rewards = self.rng.normal(size=self.n_envs).astype(np.float32)
        return np.stack(before), np.stack(after), actions, rewards, dones, infos


def played(vec_env: VecEnv, n_steps: int, seed: int = 0) -> Iterator[Step]:
    """Plays random actions and gives what Stable-Baselines3's loop would give to `add`."""
    normaliser = vec_env if isinstance(vec_env, VecNormalize) else None
    rng = np.random.default_rng(seed)
    assert isinstance(vec_env.action_space, spaces.Discrete)
    obs: Any = vec_env.reset()
    obs = normaliser.get_original_obs() if normaliser else obs
    for _ in range(n_steps):
        actions = rng.integers(0, vec_env.action_space.n, vec_env.num_envs)
        after, rewards, dones, infos = vec_env.step(actions)
        if normaliser:
            after, rewards = normaliser.get_original_obs(), normaliser.get_original_reward()
        next_obs: Any = copy.deepcopy(after)
        for i in np.flatnonzero(dones):
            ending = infos[i]["terminal_observation"]
            next_obs[i] = normaliser.unnormalize_obs(ending) if normaliser else ending
        yield obs, next_obs, actions, rewards, dones, infos
        obs = after
