"""Environments: what a name means, one environment to look at, several to train on.

Importing this module imports neither torch nor an emulator; making an environment does.
"""

from typing import TYPE_CHECKING, Any

from sndqn.envs.names import find_env, resolve_env
from sndqn.envs.settings import (
    AtariSettings,
    ControlSettings,
    EnvSettings,
    MinAtarSettings,
    settings_from_dict,
)
from sndqn.envs.user_code import (
    import_typed,
    split_module,
    use_wrapper,
    wrapped,
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
    "describe",
    "find_env",
    "has_time_limit",
    "import_typed",
    "make_env",
    "make_vec_env",
    "resolve_env",
    "settings_from_dict",
    "split_module",
    "try_out",
    "use_wrapper",
]


def make_env(
    settings: EnvSettings | str, *, render_mode: str | None = None
) -> "gymnasium.Env[Any, Any]":
    """Makes one environment as agents are evaluated on it: whole games, raw rewards.

    Args:
        settings: Settings, or a name for `resolve_env`.
        render_mode: None, or `rgb_array` to be able to render.

    Raises:
        SndqnError: It cannot be made; the message says what to type.
    """
    if isinstance(settings, str):
        settings = resolve_env(settings)
    if isinstance(settings, AtariSettings):
        from sndqn.envs.atari import AtariEnv

        return AtariEnv(settings, render_mode)
    if isinstance(settings, MinAtarSettings):
        from sndqn.envs.minatar import MinAtarEnv

        env = MinAtarEnv(settings, render_mode)
        return _wrapped_game(env, settings) if settings.wrappers else env
    from sndqn.envs.control import make_control_env

    return make_control_env(settings, render_mode)


def _wrapped_game(
    game: "gymnasium.Env[Any, Any]", settings: MinAtarSettings
) -> "gymnasium.Env[Any, Any]":
    from sndqn.envs.control import require_actions
    from sndqn.envs.observations import ArrangedObservations

    env = wrapped(game, settings.wrappers, settings.name)
    require_actions(settings.name, env)
    return ArrangedObservations(env, settings.name)


def has_time_limit(settings: EnvSettings) -> bool:
    """Returns whether every episode ends; MinAtar's and Atari's games do."""
    if not isinstance(settings, ControlSettings):
        return True
    from sndqn.envs.control import time_limit

    env = make_env(settings)
    try:
        return time_limit(env) is not None
    finally:
        env.close()


def describe(settings: EnvSettings, evaluation_cut: int) -> str:
    """Returns one line that says what the settings mean, time limit included.

    Args:
        settings: The environment's.
        evaluation_cut: Steps after which an evaluation cuts an episode that has no limit.
    """
    if not isinstance(settings, ControlSettings) or has_time_limit(settings):
        return settings.describe()
    return settings.describe(
        f"no time limit of its own; evaluation episodes are cut at {evaluation_cut} steps"
    )


def try_out(settings: EnvSettings) -> None:
    """Resets an environment of Gymnasium and takes a step, so that what is wrong shows at once.

    Raises:
        SndqnError: It fails, or gives observations that are not of its space.
    """
    if isinstance(settings, ControlSettings):
        from sndqn.envs import control

        control.try_out(settings)


def make_vec_env(
    settings: EnvSettings | str,
    n_envs: int = 1,
    *,
    seed: int | None = None,
    training: bool = True,
) -> "SeededVecEnv":
    """Makes environments for Stable-Baselines3, with games reported as by its `Monitor`.

    Args:
        settings: Settings, or a name for `resolve_env`.
        n_envs: Number of environments.
        seed: Seeds the first reset; None leaves it to chance.
        training: Whether the settings' training conventions apply (Atari: life loss, clipping).
    """
    if isinstance(settings, str):
        settings = resolve_env(settings)
    if n_envs < 1:
        raise ConfigError(f"n_envs: expected 1 or more, found {n_envs}")
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
