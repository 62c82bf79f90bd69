"""Classic control and everything else that is registered with Gymnasium."""

import re
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled, UnregisteredEnv
from gymnasium.wrappers import TimeLimit

from sndqn.envs.observations import ArrangedObservations
from sndqn.envs.settings import ControlSettings
from sndqn.envs.user_code import wrapped
from sndqn.errors import (
    ConfigError,
    EnvironmentNameError,
    MissingExtraError,
    ObservationError,
    RenderingError,
    SndqnError,
    UnsupportedSpaceError,
    UntypedCodeError,
)

_FLAT_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def make_control_env(
    settings: ControlSettings, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """Makes a registered environment, refusing spaces that Q-learning cannot take.

    Raises:
        UntypedCodeError: Its module or a wrapper was not typed.
        EnvironmentNameError: It is not registered.
        ConfigError: It does not take the settings' `env_kwargs`, or a wrapper does not take it.
        UnsupportedSpaceError: The actions are not Discrete from 0, or the observations nested.
        MissingExtraError: A package that the environment needs is not installed.
        RenderingError: It has no such way to be drawn.
    """
    if render_mode is not None:
        _require_rendering(settings, render_mode)
    env = _make(settings, render_mode)
    try:
        env = wrapped(env, settings.wrappers, settings.name)
        require_actions(settings.name, env)
        if settings.arranged:
            return ArrangedObservations(env, settings.name)
        _require_observations(settings.name, env)
    except SndqnError:
        env.close()
        raise
    return env


def _make(settings: ControlSettings, render_mode: str | None) -> gymnasium.Env[Any, Any]:
    env_id = settings.env_id
    # Copied: the constructor may change what it is given.
    given = ControlSettings(env_kwargs=settings.env_kwargs).env_kwargs
    try:
        with warnings.catch_warnings():
            # SWIG's code in Box2D crashes the interpreter where this warning is an error.
            warnings.filterwarnings("ignore", "builtin type .* has no __module__ attribute")
            # Gymnasium's checker is for authors of environments; it costs time at every step.
            return gymnasium.make(
                env_id, render_mode=render_mode, disable_env_checker=True, **given
            )
    except UnregisteredEnv as error:
        raise _unregistered(settings) from error
    except DependencyNotInstalled as error:
        raise MissingExtraError(missing_package(env_id, error)) from error
    except ImportError as error:
        raise MissingExtraError(
            f"{env_id} needs a package that is not installed: {error}"
        ) from error
    except Exception as error:
        # Foreign code, called with values of an unknown file: it can raise anything.
        reason = " ".join(str(error).partition(" was raised from the env")[0].split())[:200]
        if not settings.env_kwargs:
            missing = re.findall(r"'(\w+)'", reason) if "required" in reason else []
            keywords = ", ".join(f"{name}: ..." for name in missing)
            hint = f". Type --env-kwargs '{{{keywords}}}'" if keywords else ""
            raise ConfigError(f"{env_id} cannot be made: {reason}{hint}") from error
        raise ConfigError(
            f"env_kwargs: {env_id} does not take {settings.env_kwargs}: {reason}"
        ) from error


def _require_rendering(settings: ControlSettings, render_mode: str) -> None:
    env = _make(settings, None)
    env.close()
    modes = list((env.metadata or {}).get("render_modes") or [])
    if render_mode not in modes:
        raise RenderingError(
            f"{settings.name} cannot be drawn: expected the render mode {render_mode}, found "
            f"{', '.join(map(str, modes)) or 'none'}. Its scores and traces are kept all the same"
        )


def _unregistered(settings: ControlSettings) -> SndqnError:
    """Makes the error that says what to type, so that an environment is registered."""
    env_id, modules = settings.env_id, settings.modules
    if not modules:
        return EnvironmentNameError(
            f"{env_id} is not registered: type --import MODULE, the module that registers it"
        )
    if all(module in sys.modules for module in modules):
        return EnvironmentNameError(
            f"{env_id} is not registered by {' or '.join(modules)}: check --import and the id"
        )
    options = " ".join(f"--import {module}" for module in modules)
    return UntypedCodeError(
        f"{env_id} is registered by the module {' or '.join(modules)}, which is imported only if "
        f"you type it: {options}"
    )


def registering_modules(env_id: str) -> list[str]:
    """Guesses from the module of an environment's class which one to import for it."""
    entry: Any = gymnasium.spec(env_id).entry_point
    module = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
    package = (module or "").partition(".")[0]
    return (
        [] if package in ("gymnasium", "__main__", "") or not package.isidentifier() else [package]
    )


def try_out(settings: ControlSettings) -> None:
    """Resets an environment and takes one step, so that what is wrong shows before training.

    Raises:
        ObservationError: Its observations are not of its space, or not finite.
        MissingExtraError: It needs a package that is not installed.
        ConfigError: It fails.
    """
    env = make_control_env(settings)
    try:
        for observation in (env.reset(seed=0)[0], env.step(0)[0]):
            parts = observation.values() if isinstance(observation, dict) else [observation]
            if not all(np.isfinite(part).all() for part in parts):
                raise ObservationError(
                    f"{settings.name}: expected finite observations, found {observation}"
                )
    except SndqnError:
        raise
    except DependencyNotInstalled as error:
        raise MissingExtraError(missing_package(settings.env_id, error)) from error
    except Exception as error:
        # Foreign code: it can raise anything.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(f"{settings.name} fails in its first step: {reason}") from error
    finally:
        env.close()


def time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """Returns the steps after which Gymnasium's TimeLimit cuts an episode; None without one."""
    limit = None
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            steps = int(env._max_episode_steps)
            limit = steps if limit is None else min(limit, steps)
        env = env.env
    return limit


def require_actions(name: str, env: gymnasium.Env[Any, Any]) -> None:
    """Refuses an environment whose actions are not Discrete from 0.

    Raises:
        UnsupportedSpaceError: They are not.
    """
    actions = env.action_space
    if not isinstance(actions, spaces.Discrete) or actions.start != 0:
        raise UnsupportedSpaceError(
            f"DQN needs Discrete actions, numbered from 0; {name} has {str(actions)[:200]}. "
            "Choose an environment with discrete actions, such as CartPole."
        )


def _require_observations(name: str, env: gymnasium.Env[Any, Any]) -> None:
    observations = env.observation_space
    parts = observations.values() if isinstance(observations, spaces.Dict) else [observations]
    if not all(isinstance(part, _FLAT_SPACES) for part in parts):
        raise UnsupportedSpaceError(
            f"Observations must be Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these; "
            f"{name} has {str(observations)[:200]}."
        )


def missing_package(env_id: str, error: DependencyNotInstalled) -> str:
    """Returns which package an environment needs, and how to install it."""
    spec = gymnasium.registry.get(env_id)
    if spec is not None and str(spec.entry_point).startswith("gymnasium.envs.box2d"):
        return f'{env_id} needs Box2D, which is not installed; type: pip install "sndqn[box2d]"'
    return f"{env_id} needs a package that is not installed: {error}"
