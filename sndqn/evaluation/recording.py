"""Recording an episode as a trace, and proving a trace by playing its actions again."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

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
from sndqn.evaluation.play import Env, QFunction, Step, count_actions, play, run_episode
from sndqn.evaluation.traces import MAX_STEPS, EndedBy, Trace

if TYPE_CHECKING:
    from sndqn.envs import EnvSettings

_NO_ENVIRONMENT = (ConfigError, EnvironmentNameError, UnsupportedSpaceError, gym.error.Error)
_PACKAGES = ("ale-py", "box2d", "gymnasium", "minatar", "numpy", "pygame-ce")


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """One step of a replay that agreed with the record.

    Attributes:
        index: Number of actions taken so far; 0 for the reset.
        step: What the environment answered; its `q_values` are None.
        frame: RGB picture, uint8 (height, width, 3), after the action; None unless rendering.
    """

    index: int
    step: Step
    frame: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Rendering:
    """What a video of an episode needs besides its pictures.

    Attributes:
        action_names: One name per action, such as "FIRE"; "action 0" where none are known.
        fps: Pictures per second at which the environment wants to be watched.
    """

    action_names: list[str]
    fps: float


def record_trace(
    env: Env,
    settings: "EnvSettings",
    q_function: QFunction,
    *,
    seed: int,
    epsilon: float,
    max_steps: int | None = None,
    agent_sha256: str | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Trace:
    """Play one episode in `env` and record it.

    Args:
        env: What `make_env(settings)` gave.
        settings: The settings `env` was made from.
        q_function: The agent; see `play`.
        seed: Seed of the episode.
        epsilon: Probability of a random action.
        max_steps: Cut the episode after this many actions; None for `MAX_STEPS`.
        agent_sha256: SHA-256 of the agent's file, for the record.
        on_step: Called after each step with the number of steps.

    Raises:
        TraceError: The environment gave NaN or an infinite number.
    """
    limit = MAX_STEPS if max_steps is None else min(max_steps, MAX_STEPS)
    actions: list[int] = []
    rewards: list[float] = []
    fingerprints: list[np.generic] = []
    ended_by: EndedBy = "max_steps"
    for step in play(env, q_function, seed=seed, epsilon=epsilon):
        try:
            fingerprints.append(fingerprint(step.observation))
        except TraceError as error:
            raise TraceError(f"{settings.name}: {error}") from None
        if step.action is not None:
            actions.append(step.action)
            rewards.append(step.reward)
            if on_step is not None:
                on_step(len(actions))
        ended_by = _ended_by(step)
        if len(actions) == limit:
            break
    return Trace(
        settings=settings.to_dict(),
        seed=seed,
        epsilon=epsilon,
        actions=np.array(actions),
        rewards=np.array(rewards),
        fingerprints=np.array(fingerprints),
        ended_by=ended_by,
        versions=package_versions(),
        agent_sha256=agent_sha256,
    )


def replay_trace(trace: Trace, *, render: bool = False) -> Iterator[ReplayedStep]:
    """Play the recorded actions again and compare every step with the record.

    A trace read to its end without an error is proved: its score follows from its actions. Stop
    early and only the steps so far are.

    Args:
        trace: The episode.
        render: Also draw each step.

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
            _check_step(trace, index, step)
            frame = _drawn(env, trace.settings) if render else None
            yield ReplayedStep(index, step, frame)
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
        names = [f"action {action}" for action in range(count_actions(env))]
        if env.has_wrapper_attr("get_action_meanings"):
            own = [str(name) for name in env.get_wrapper_attr("get_action_meanings")()]
            names = own if len(own) == len(names) else names
        return Rendering(names, _fps(env.metadata))
    finally:
        env.close()


def _fps(metadata: Mapping[str, Any]) -> float:
    """Give what an environment says, or what Gymnasium assumes where it says nothing of use."""
    fps = metadata.get("render_fps")
    is_rate = isinstance(fps, int | float | np.number) and 0 < fps < math.inf
    return float(fps) if is_rate else 30.0  # type: ignore[arg-type]


def _drawn(env: Env, settings: Mapping[str, Any]) -> Any:
    """Draw an environment; Gymnasium types a frame as anything, rgb_array makes it an array."""
    try:
        return env.render()
    except gym.error.DependencyNotInstalled as error:
        name = settings.get("env_id", "The environment")
        raise MissingExtraError(
            f"{name} needs a package that is not installed, to be drawn: {error}"
        ) from error
    except Exception as error:
        # Someone else's code: anything can come.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        name = settings.get("env_id", "The environment")
        raise RenderingError(f"{name} cannot be drawn: {reason}") from error


def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that environments are made of."""
    versions = {}
    for package in _PACKAGES:
        version = _version(package)
        if version is not None:
            versions[package] = version
    return versions


def version_differences(trace: Trace) -> list[str]:
    """Return one line for each package whose version differs from the recorded one.

    A difference is no error: the replay itself tells whether it matters.
    """
    lines = []
    for package, recorded in sorted(trace.versions.items()):
        installed = _version(package)
        if installed != recorded:
            lines.append(f"recorded with {package} {recorded}, installed is {installed or 'none'}")
    return lines


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def _make_env(trace: Trace, *, render: bool) -> Env:
    from sndqn.envs import make_env, settings_from_dict

    try:
        settings = settings_from_dict(trace.settings)
        return make_env(settings, render_mode="rgb_array" if render else None)
    except UntypedCodeError:
        raise
    except _NO_ENVIRONMENT as error:
        raise TraceError(f"expected the settings of an environment, found: {error}") from error


def _check_step(trace: Trace, index: int, step: Step) -> None:
    """Compare one replayed step with the record; `index` is 0 for the reset."""
    exact = trace.fingerprint_kind == "crc32"
    if index > 0:
        reward = trace.rewards[index - 1]
        if not close_enough(reward, np.float32(step.reward), exact):
            raise _difference(index, f"reward {reward:g}", f"{step.reward:g}")
    recorded, came = trace.fingerprints[index], fingerprint(step.observation)
    if recorded.dtype.kind != came.dtype.kind or not close_enough(recorded, came, exact):
        raise _difference(index, f"observation {recorded} ({trace.fingerprint_kind})", str(came))
    recorded_end = trace.ended_by if index == trace.length else "max_steps"
    if _ended_by(step) != recorded_end:
        raise _difference(index, _END_WORDS[recorded_end], _END_WORDS[_ended_by(step)])


_END_WORDS: dict[EndedBy, str] = {
    "terminated": "the episode terminated",
    "truncated": "the episode was truncated",
    "max_steps": "no end of the episode",
}


def _ended_by(step: Step) -> EndedBy:
    """Return how the episode ended if it is cut after `step`."""
    if step.terminated:
        return "terminated"
    return "truncated" if step.truncated else "max_steps"


def _difference(index: int, recorded: str, came: str) -> TraceError:
    return TraceError(
        f"step {index}: recorded {recorded}, the environment gave {came}; "
        "the trace was edited, or other package versions play differently"
    )
