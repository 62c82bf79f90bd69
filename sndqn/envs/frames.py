"""How many frames the observations of an environment stack."""

from typing import Any

from stable_baselines3.common.vec_env import VecEnvWrapper, VecFrameStack

from sndqn.envs.atari_vector import AtariVecEnv


def frames_in(env: Any) -> int:
    """Returns how many frames each observation of a vector environment stacks; 1 for none."""
    while env is not None:
        if isinstance(env, VecFrameStack):
            return int(env.stacked_obs.n_stack)
        if isinstance(env, AtariVecEnv):
            return env.settings.frame_stack
        env = env.venv if isinstance(env, VecEnvWrapper) else None
    return 1
