"""Environments: what a name means, one environment to look at, several to train on.

Importing this module imports neither torch nor an emulator; making an environment does.
"""

from typing import TYPE_CHECKING, Any

from sndqn.envs.names import resolve_env
from sndqn.envs.settings import (
    AtariSettings,
    ControlSettings,
    EnvSettings,
    MinAtarSettings,
    settings_from_dict,
)
from sndqn.errors import ConfigError

if TYPE_CHECKING:
    import gymnasium

    from sndqn.envs.vector import SeededVecEnv

__all__ = [
    "AtariSettings",
    "ControlSettings",
    "EnvSettings",
    "MinAtarSettings",
    "make_env",
    "make_vec_env",
    "resolve_env",
    "settings_from_dict",
]


def make_env(
    settings: EnvSettings | str, *, render_mode: str | None = None
) -> "gymnasium.Env[Any, Any]":
    """Make one environment as agents are evaluated on it: whole games, raw rewards.

    Args:
        settings: Settings, or a name for `resolve_env`.
        render_mode: None, or `rgb_array` to be able to render.
    """
    if isinstance(settings, str):
        settings = resolve_env(settings)
    if isinstance(settings, AtariSettings):
        from sndqn.envs.atari import AtariEnv

        return AtariEnv(settings, render_mode)
    if isinstance(settings, MinAtarSettings):
        from sndqn.envs.minatar import MinAtarEnv

        return MinAtarEnv(settings, render_mode)
    from sndqn.envs.control import make_control_env

    return make_control_env(settings, render_mode)


def make_vec_env(
    settings: EnvSettings | str,
    n_envs: int = 1,
    *,
    seed: int | None = None,
    training: bool = True,
) -> "SeededVecEnv":
    """Make environments for Stable-Baselines3, with games reported as by its `Monitor`.

    Args:
        settings: Settings, or a name for `resolve_env`.
        n_envs: Number of environments.
        seed: Seeds the first reset; None leaves it to chance.
        training: Whether the settings' training conventions apply (Atari: life loss, clipping).
    """
    if isinstance(settings, str):
        settings = resolve_env(settings)
    if n_envs < 1:
        raise ConfigError(f"n_envs must be 1 or more, found {n_envs}.")
    vec_env: SeededVecEnv
    if isinstance(settings, AtariSettings):
        from sndqn.envs.atari_vector import AtariVecEnv

        vec_env = AtariVecEnv(settings, n_envs, training=training)
    else:
        from sndqn.envs.vector import SmallVecEnv

        vec_env = SmallVecEnv([make_env(settings) for _ in range(n_envs)])
    if seed is not None:
        vec_env.seed(seed)
    return vec_env
