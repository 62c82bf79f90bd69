"""Batches: how a sample of the replay becomes them, and what they need of the environment."""

from typing import Any

from stable_baselines3.common.vec_env import VecEnvWrapper, VecFrameStack
from torch import Tensor

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

    def chunks(tensor: Tensor) -> tuple[Tensor, ...]:
        return tensor.view(n, size, *tensor.shape[1:]).unbind()  # a fifth of the time of split()

    def parts(value: Any) -> Any:
        if isinstance(value, dict):
            columns = zip(*map(chunks, value.values()), strict=True)
            return [dict(zip(value, row, strict=True)) for row in columns]
        return [None] * n if value is None else chunks(value)

    return [type(samples)(*fields) for fields in zip(*map(parts, samples), strict=True)]
