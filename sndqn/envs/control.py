"""Classic control and everything else that is registered with Gymnasium."""

import warnings
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled

from sndqn.envs.settings import ControlSettings
from sndqn.errors import ConfigError, MissingExtraError, UnsupportedSpaceError

_FLAT_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def make_control_env(
    settings: ControlSettings, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """Make a registered environment, refusing spaces that Q-learning cannot take.

    Raises:
        ConfigError: It does not take the settings' `env_kwargs`.
        UnsupportedSpaceError: The actions are not Discrete from 0, or the observations nested.
        MissingExtraError: A package that the environment needs is not installed.
    """
    try:
        with warnings.catch_warnings():
            # SWIG's code in Box2D crashes the interpreter where this warning is an error.
            warnings.filterwarnings("ignore", "builtin type .* has no __module__ attribute")
            # Gymnasium's checker is for authors of environments; it costs time at every step.
            env = gymnasium.make(
                settings.env_id,
                render_mode=render_mode,
                disable_env_checker=True,
                **settings.env_kwargs,
            )
    except DependencyNotInstalled as error:
        raise MissingExtraError(_missing_package(settings.env_id, error)) from error
    except ImportError as error:
        raise MissingExtraError(
            f"{settings.env_id} needs a package that is not installed: {error}"
        ) from error
    except gymnasium.error.Error:
        raise
    except Exception as error:
        # Someone else's code, called with what may be a stranger's values: anything can come.
        reason = " ".join(str(error).split())[:200]
        if not settings.env_kwargs:
            raise ConfigError(f"{settings.env_id} cannot be made: {reason}") from error
        raise ConfigError(
            f"env_kwargs: {settings.env_id} does not take {settings.env_kwargs}: {reason}"
        ) from error
    try:
        _require_spaces(settings.env_id, env)
    except UnsupportedSpaceError:
        env.close()
        raise
    return env


def _require_spaces(env_id: str, env: gymnasium.Env[Any, Any]) -> None:
    actions = env.action_space
    if not isinstance(actions, spaces.Discrete) or actions.start != 0:
        raise UnsupportedSpaceError(
            f"DQN needs Discrete actions, numbered from 0; {env_id} has {actions}. "
            "Choose an environment with discrete actions, such as CartPole."
        )
    observations = env.observation_space
    parts = observations.values() if isinstance(observations, spaces.Dict) else [observations]
    if not all(isinstance(part, _FLAT_SPACES) for part in parts):
        raise UnsupportedSpaceError(
            f"Observations must be Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these; "
            f"{env_id} has {observations}. Wrap it in gymnasium.wrappers.FlattenObservation."
        )


def _missing_package(env_id: str, error: DependencyNotInstalled) -> str:
    spec = gymnasium.spec(env_id)
    if str(spec.entry_point).startswith("gymnasium.envs.box2d"):
        return f'{env_id} needs Box2D, which is not installed; type: pip install "sndqn[box2d]"'
    return f"{env_id} needs a package that is not installed: {error}"
