"""Proving a trace by playing its actions again, and drawing what they lead to."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np

from sndqn.errors import (
    ConfigError,
    EnvironmentNameError,
    MissingExtraError,
    RenderingError,
    TraceError,
    UnsupportedSpaceError,
    UntypedCodeError,
)
from sndqn.evaluation.fingerprints import close_enough, fingerprint
from sndqn.evaluation.hopeless import Stillness
from sndqn.evaluation.play import Env, Step, count_actions, run_episode
from sndqn.evaluation.traces import EndedBy, Trace

if TYPE_CHECKING:
    from sndqn.envs import EnvSettings

_NO_ENVIRONMENT = (ConfigError, EnvironmentNameError, UnsupportedSpaceError, gym.error.Error)
# Gymnasium's own environments do not say what their actions are called.
_ACTION_NAMES = {
    "CartPole": ["push left", "push right"],
    "MountainCar": ["push left", "no push", "push right"],
    "Acrobot": ["torque -1", "torque 0", "torque +1"],
    "LunarLander": ["no engine", "left engine", "main engine", "right engine"],
    "Taxi": ["south", "north", "east", "west", "pick up", "drop off"],
    "CliffWalking": ["up", "right", "down", "left"],
    "FrozenLake": ["left", "down", "right", "up"],
    "Blackjack": ["stick", "hit"],
}


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """One step of a replay that agreed with the record.

    Attributes:
        index: Number of actions taken so far; 0 for the reset.
        step: What the environment answered; its `q_values` are None.
        frame: RGB picture, uint8 (height, width, 3), after the action; None unless rendering.
        between: Pictures between the step before and this one, where every frame is wanted.
    """

    index: int
    step: Step
    frame: np.ndarray | None
    between: Sequence[np.ndarray] = ()


@dataclass(frozen=True, slots=True)
class Rendering:
    """What a video of an episode needs besides its pictures.

    Attributes:
        action_names: One name per action, such as "FIRE"; "action 0" where none are known.
        fps: Pictures per second at which the environment wants to be watched, one a step.
        frames_per_step: Pictures of a step, where every frame is wanted.
    """

    action_names: list[str]
    fps: float
    frames_per_step: int = 1


@runtime_checkable
class ShowsFrames(Protocol):
    """An environment that shows frames between two steps."""

    def frames_of_step(self) -> list[Any]:
        """Returns every frame since the step before, the newest last."""
        ...


def replay_trace(
    trace: Trace, *, render: bool = False, every_frame: bool = False
) -> Iterator[ReplayedStep]:
    """Play the recorded actions again and compare every step with the record.

    A trace read to its end without an error is proved: its score follows from its actions. Stop
    early and only the steps so far are.

    Args:
        trace: The episode.
        render: Also draw each step.
        every_frame: And each frame between two steps, where the environment has such: Atari's
            frames, 60 a second, as they are on the screen; else they are max-pooled, as observed.

    Yields:
        The reset and every step, each after it was found to agree.

    Raises:
        TraceError: The settings cannot be made into an environment, or a step differs; the message
            names the step, what was recorded and what came.
        MissingExtraError: A package the environment needs is not installed.
        RenderingError: It cannot be drawn.
    """
    env = _make_env(trace, render=render)
    try:
        ends = _Ends(trace)
        n_actions = count_actions(env)
        if int(trace.actions.max()) >= n_actions:
            step_number = int((trace.actions >= n_actions).argmax()) + 1
            raise TraceError(
                f"step {step_number}: recorded action {trace.actions[step_number - 1]}, "
                f"the environment has {n_actions}; the trace was edited or the settings were"
            )
        recorded_actions = iter(trace.actions.tolist())
        steps = run_episode(env, lambda _: (next(recorded_actions), None), seed=trace.seed)
        for index, step in enumerate(steps):
            _check_step(trace, index, step, ends.of(step))
            frames: list[Any] = [None]
            if render:
                frames = drawn(env, trace.settings, every_frame=every_frame)
            yield ReplayedStep(index, step, frames[-1], frames[:-1])
            if index == trace.length:
                return
    finally:
        env.close()


def rendering_of(trace: Trace) -> Rendering:
    """Return the names and the speed for showing a trace.

    Raises:
        TraceError: The settings cannot be made into an environment.
        MissingExtraError: A package the environment needs is not installed.
        RenderingError: It cannot be drawn.
    """
    env = _make_env(trace, render=True)
    try:
        return rendering_of_env(env, trace.settings)
    finally:
        env.close()


def rendering_of_env(env: Env, settings: Mapping[str, Any]) -> Rendering:
    """Returns the names and the speed for showing an environment.

    Args:
        env: Made with render_mode "rgb_array".
        settings: It was made from, as JSON data.
    """
    names = [f"action {action}" for action in range(count_actions(env))]
    known = _ACTION_NAMES.get(str(settings.get("env_id")).rpartition("-v")[0], [])
    names = known if len(known) == len(names) else names
    if env.has_wrapper_attr("get_action_meanings"):
        own = [str(name) for name in env.get_wrapper_attr("get_action_meanings")()]
        names = own if len(own) == len(names) else names
    frames_per_step = settings["frame_skip"] if isinstance(env, ShowsFrames) else 1
    return Rendering(names, _fps(env.metadata), frames_per_step)


def _fps(metadata: Mapping[str, Any]) -> float:
    """Give what an environment says, or what Gymnasium assumes where it says nothing of use."""
    fps = metadata.get("render_fps")
    is_rate = isinstance(fps, int | float | np.number) and 0 < fps < math.inf
    return float(fps) if is_rate else 30.0  # type: ignore[arg-type]


def drawn(env: Env, settings: Mapping[str, Any], *, every_frame: bool) -> list[Any]:
    """Draws an environment; Gymnasium types a frame as anything, rgb_array makes it an array.

    Args:
        env: Made with render_mode "rgb_array".
        settings: It was made from, as JSON data.
        every_frame: Whether to draw the frames since the step before as well, see `replay_trace`.

    Returns:
        The pictures, the newest last.

    Raises:
        MissingExtraError: A package that draws it is not installed.
        RenderingError: It cannot be drawn.
    """
    try:
        if every_frame and isinstance(env, ShowsFrames):
            return env.frames_of_step()
        return [env.render()]
    except gym.error.DependencyNotInstalled as error:
        name = settings.get("env_id", "The environment")
        raise MissingExtraError(
            f"{name} needs a package that is not installed, to be drawn: {error}"
        ) from error
    except Exception as error:
        # Foreign code: it can raise anything.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        name = settings.get("env_id", "The environment")
        raise RenderingError(f"{name} cannot be drawn: {reason}") from error


def _settings_of(trace: Trace) -> "EnvSettings":
    from sndqn.envs import settings_from_dict

    try:
        return settings_from_dict(trace.settings)
    except _NO_ENVIRONMENT as error:
        raise _no_environment(error) from error


def _make_env(trace: Trace, *, render: bool) -> Env:
    from sndqn.envs import make_env

    settings = _settings_of(trace)
    try:
        return make_env(settings, render_mode="rgb_array" if render else None)
    except UntypedCodeError:
        raise
    except _NO_ENVIRONMENT as error:
        raise _no_environment(error) from error


def _no_environment(error: Exception) -> TraceError:
    return TraceError(f"expected the settings of an environment, found: {error}")


def _check_step(trace: Trace, index: int, step: Step, ended_by: EndedBy) -> None:
    """Compares one replayed step with the record; `index` is 0 for the reset."""
    exact = trace.fingerprint_kind == "crc32"
    if index > 0:
        reward = trace.rewards[index - 1]
        if not close_enough(reward, np.float32(step.reward), exact):
            raise _difference(index, f"reward {reward:g}", f"{step.reward:g}")
    recorded, came = trace.fingerprints[index], fingerprint(step.observation)
    if recorded.dtype.kind != came.dtype.kind or not close_enough(recorded, came, exact):
        raise _difference(index, f"observation {recorded} ({trace.fingerprint_kind})", str(came))
    recorded_end = trace.ended_by if index == trace.length else "max_steps"
    if ended_by != recorded_end:
        raise _difference(index, _END_WORDS[recorded_end], _END_WORDS[ended_by])


_END_WORDS: dict[EndedBy, str] = {
    "terminated": "the episode terminated",
    "truncated": "the episode was truncated",
    "max_steps": "no end of the episode",
    "hopeless": "a minute in which nothing happened",
}


class _Ends:
    """Says how a replayed episode ends if it is cut after a step."""

    def __init__(self, trace: Trace) -> None:
        self._stillness: Stillness | None = None
        if trace.ended_by == "hopeless":
            try:
                self._stillness = Stillness(_settings_of(trace))
            except ConfigError as error:
                raise _no_environment(error) from error

    def of(self, step: Step) -> EndedBy:
        still = self._stillness is not None and self._stillness.lasts(step)
        if step.terminated or step.truncated:
            return "terminated" if step.terminated else "truncated"
        return "hopeless" if still else "max_steps"


def _difference(index: int, recorded: str, came: str) -> TraceError:
    return TraceError(
        f"step {index}: recorded {recorded}, the environment gave {came}; "
        "the trace was edited, or other package versions play differently"
    )
