"""Recording an episode as a trace."""

from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from sndqn.errors import TraceError
from sndqn.evaluation.fingerprints import fingerprint
from sndqn.evaluation.hopeless import Stillness
from sndqn.evaluation.play import Env, QFunction, Step, play
from sndqn.evaluation.traces import MAX_STEPS, EndedBy, Trace

if TYPE_CHECKING:
    from sndqn.envs import EnvSettings

_PACKAGES = ("ale-py", "box2d", "gymnasium", "minatar", "numpy", "pygame-ce")


class Recorder:
    """Makes a trace of an episode's steps.

    Args:
        settings: Of the environment.
        seed: Seed of the episode.
        epsilon: Probability of a random action.
        max_steps: Cut the episode after this many actions; None for `MAX_STEPS`.
        end_hopeless: Whether to cut a game in which nothing happens, see `Stillness`.
        agent_sha256: SHA-256 of the agent's file.

    Attributes:
        ended_by: How the episode ended, once it is over.
    """

    def __init__(
        self,
        settings: "EnvSettings",
        *,
        seed: int,
        epsilon: float,
        max_steps: int | None = None,
        end_hopeless: bool = False,
        agent_sha256: str | None = None,
    ) -> None:
        self._settings, self._seed, self._epsilon = settings, seed, epsilon
        self._limit = MAX_STEPS if max_steps is None else min(max_steps, MAX_STEPS)
        self._stillness = Stillness(settings) if end_hopeless else None
        self._agent_sha256 = agent_sha256
        self._actions: list[int] = []
        self._rewards: list[float] = []
        self._fingerprints: list[np.generic] = []
        self.ended_by: EndedBy = "max_steps"

    @property
    def length(self) -> int:
        """Number of actions so far."""
        return len(self._actions)

    def add(self, step: Step) -> bool:
        """Takes the next step, the reset first; says whether the episode is over.

        Raises:
            TraceError: The environment gave NaN or an infinite number.
        """
        try:
            self._fingerprints.append(fingerprint(step.observation))
        except TraceError as error:
            raise TraceError(f"{self._settings.name}: {error}") from None
        if step.action is not None:
            self._actions.append(step.action)
            self._rewards.append(step.reward)
        still = self._stillness is not None and self._stillness.lasts(step)
        if step.terminated or step.truncated:
            self.ended_by = "terminated" if step.terminated else "truncated"
        elif still:
            self.ended_by = "hopeless"
        elif len(self._actions) < self._limit:
            return False
        return True

    def trace(self) -> Trace:
        """Returns the trace of an episode that is over."""
        return Trace(
            settings=self._settings.to_dict(),
            seed=self._seed,
            epsilon=self._epsilon,
            actions=np.array(self._actions),
            rewards=np.array(self._rewards),
            fingerprints=np.array(self._fingerprints),
            ended_by=self.ended_by,
            versions=package_versions(),
            agent_sha256=self._agent_sha256,
        )


def record_trace(
    env: Env,
    settings: "EnvSettings",
    q_function: QFunction,
    *,
    seed: int,
    epsilon: float,
    max_steps: int | None = None,
    agent_sha256: str | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Trace:
    """Plays one episode in `env` and records it.

    Args:
        env: What `make_env(settings)` gave.
        settings: The settings `env` was made from.
        q_function: The agent; see `play`.
        seed: Seed of the episode.
        epsilon: Probability of a random action.
        max_steps: Cut the episode after this many actions; None for `MAX_STEPS`.
        agent_sha256: SHA-256 of the agent's file, for the record.
        on_step: Called after each step with 0, the episode's number, and the number of its steps.

    Raises:
        TraceError: The environment gave NaN or an infinite number.
    """
    recorder = Recorder(
        settings, seed=seed, epsilon=epsilon, max_steps=max_steps, agent_sha256=agent_sha256
    )
    for step in play(env, q_function, seed=seed, epsilon=epsilon):
        over = recorder.add(step)
        if on_step is not None:
            on_step(0, recorder.length)
        if over:
            break
    return recorder.trace()


@cache
def _installed_versions() -> dict[str, str]:
    found = {package: _version(package) for package in _PACKAGES}
    return {package: version for package, version in found.items() if version is not None}


def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that environments are made of."""
    return dict(_installed_versions())


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
