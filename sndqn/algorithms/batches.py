"""Batches: how a sample of the replay becomes them, and what they need of the environment."""

from typing import Any

from stable_baselines3.common.vec_env import VecEnvWrapper, VecFrameStack

from sndqn.envs.atari_vector import AtariVecEnv
from sndqn.replay import Batch


def frames_in(env: Any) -> int:
    """Says of how many frames an environment's observations are a stack; 1 where they are none."""
    while env is not None:
        if isinstance(env, VecFrameStack):
            return int(env.stacked_obs.n_stack)
        if isinstance(env, AtariVecEnv):
            return env.settings.frame_stack
        env = env.venv if isinstance(env, VecEnvWrapper) else None
    return 1


def split(samples: Batch, size: int) -> list[Batch]:
    """Gives a sample as batches of so many rows, as views."""
    n = len(samples.rewards) // size
    if n == 1:
        return [samples]

    def parts(value: Any) -> Any:
        if isinstance(value, dict):
            columns = zip(*map(parts, value.values()), strict=True)
            return [dict(zip(value, row, strict=True)) for row in columns]
        # chunk takes less than half the time of split.
        return [None] * n if value is None else value.chunk(n)

    return [type(samples)(*fields) for fields in zip(*map(parts, samples), strict=True)]
