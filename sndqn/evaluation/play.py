"""Episodes under way: the only place where an agent acts outside training.

Evaluation, traces, videos and windows all read these steps, so they cannot disagree about what an
episode is, when it ends, or how a random action is drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np

from sndqn.errors import SndqnError, TrainingError, UnsupportedSpaceError

Env = gym.Env[Any, Any]
QFunction = Callable[[Any], np.ndarray]
"""Maps one observation to its Q-values, shape (n_actions,)."""

Choice = tuple[int, np.ndarray | None]


@runtime_checkable
class ManyValues(Protocol):
    """A Q-function that takes several observations at once as well."""

    def of_many(self, observations: Sequence[Any]) -> np.ndarray:
        """Returns Q-values, shape (n, n_actions), each row what the observation alone gives."""
        ...


def values_of_many(q_function: QFunction, observations: Sequence[Any]) -> Sequence[np.ndarray]:
    """Asks a Q-function for all observations at once if it can, else one by one."""
    if isinstance(q_function, ManyValues):
        return q_function.of_many(observations)
    return [np.asarray(q_function(observation)) for observation in observations]


@dataclass(frozen=True, slots=True)
class Step:
    """What an environment answered, to the reset (the first step) or to one action.

    Attributes:
        observation: What the environment shows after the action.
        action: The action taken; None for the reset.
        reward: The reward of this action; 0 for the reset.
        terminated: The episode reached an end of its own.
        truncated: The episode was cut by the environment's time limit.
        q_values: Values, shape (n_actions,), of the state the action was chosen in; None for the
            reset and where no Q-function chose.
    """

    observation: Any
    action: int | None
    reward: float
    terminated: bool
    truncated: bool
    q_values: np.ndarray | None


def count_actions(env: Env) -> int:
    """Returns the number of actions of an environment.

    Raises:
        UnsupportedSpaceError: The action space is not `Discrete` starting at 0.
    """
    space = env.action_space
    if not isinstance(space, gym.spaces.Discrete) or space.start != 0:
        raise UnsupportedSpaceError(
            f"expected actions 0 to n-1 (Discrete), found {space}; "
            "choose an environment with discrete actions"
        )
    return int(space.n)


class Episode:
    """An episode under way in an environment; the caller chooses each action.

    `begin` and `finish` make a step. Between the two, environments whose work is done in a thread
    of their own (`begin_step`, `finish_step`) go on by themselves; all others work in `finish`.

    Args:
        env: The environment, which is reset.
        seed: Seed of the reset.

    Attributes:
        step: The newest step; the reset at first.

    Raises:
        TrainingError: The environment failed, here or in a step.
    """

    def __init__(self, env: Env, *, seed: int) -> None:
        self._env = env
        self._begin_step: Callable[[int], None] | None = getattr(env, "begin_step", None)
        self._finish_step: Callable[[], Any] | None = getattr(env, "finish_step", None)
        self._choice: Choice = (0, None)
        with _failures_of(env):
            observation, _ = env.reset(seed=seed)
        self.step = Step(observation, None, 0.0, terminated=False, truncated=False, q_values=None)

    @property
    def ended(self) -> bool:
        """Whether the environment ended it."""
        return self.step.terminated or self.step.truncated

    def begin(self, action: int, q_values: np.ndarray | None = None) -> None:
        """Takes an action; `finish` must follow.

        Args:
            action: Its number.
            q_values: What it was chosen by, for the step.
        """
        self._choice = (action, q_values)
        if self._begin_step is not None:
            with _failures_of(self._env):
                self._begin_step(action)

    def finish(self) -> Step:
        """Returns what the action led to."""
        action, q_values = self._choice
        with _failures_of(self._env):
            answer = self._env.step(action) if self._finish_step is None else self._finish_step()
        observation, reward, terminated, truncated, _ = answer
        self.step = Step(
            observation, action, float(reward), bool(terminated), bool(truncated), q_values
        )
        return self.step


class EpsilonGreedy:
    """Chooses an episode's actions; of equal Q-values the first one wins.

    Args:
        n_actions: Number of actions.
        seed: Of the random actions, the episode's own.
        epsilon: Probability of a uniformly random action, in [0, 1].
        rng: Source of the random actions; by default a new one made from `seed`.
    """

    def __init__(
        self, n_actions: int, *, seed: int, epsilon: float, rng: np.random.Generator | None = None
    ) -> None:
        if rng is None:
            # A child of the seed: the environment seeds its own generator with the seed itself, and
            # random actions must not follow the same stream as the game's randomness.
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
        self._n_actions, self._epsilon, self._rng = n_actions, epsilon, rng

    def __call__(self, q_values: np.ndarray) -> int:
        """Returns an action, given the Q-values of the state.

        Raises:
            UnsupportedSpaceError: The Q-values are not one per action.
        """
        if q_values.shape != (self._n_actions,):
            raise UnsupportedSpaceError(
                f"expected one Q-value per action, shape ({self._n_actions},), found "
                f"{q_values.shape}; use an agent trained for this environment"
            )
        if self._rng.random() < self._epsilon:
            return int(self._rng.integers(self._n_actions))
        return int(q_values.argmax())


def run_episode(env: Env, choose: Callable[[Any], Choice], *, seed: int) -> Iterator[Step]:
    """Resets `env` with `seed` and acts until the episode ends.

    The generator waits at every step, so a caller may render, or stop early by reading no further.

    Args:
        env: The environment.
        choose: Maps an observation to an action and the Q-values it came from, if any.
        seed: Seed of the reset.

    Yields:
        The reset as a `Step` without action, then one `Step` per action.

    Raises:
        TrainingError: The environment failed.
    """
    episode = Episode(env, seed=seed)
    yield episode.step
    while not episode.ended:
        episode.begin(*choose(episode.step.observation))
        yield episode.finish()


class _failures_of:
    """Turns an exception of an environment, which is foreign code, into an error of one line."""

    def __init__(self, env: Env) -> None:
        self.env = env

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, where: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, SndqnError):
            name = self.env.spec.id if self.env.spec else "the environment"
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise TrainingError(f"{name} failed: {reason}") from error


def play(
    env: Env,
    q_function: QFunction,
    *,
    seed: int,
    epsilon: float,
    rng: np.random.Generator | None = None,
) -> Iterator[Step]:
    """Plays one ε-greedy episode.

    With `rng` left out, the episode is a pure function of (agent, environment, seed, epsilon).

    Args:
        env: An environment with discrete actions.
        q_function: Maps one observation to Q-values of shape (n_actions,).
        seed: Seed of the reset, and of the random actions.
        epsilon: Probability of a uniformly random action, in [0, 1].
        rng: Source of the random actions; by default a new one made from `seed`.

    Returns:
        The steps, the reset first; see `run_episode`. Of equal Q-values the first one wins.

    Raises:
        UnsupportedSpaceError: The actions are not discrete, or (while playing) the Q-values are
            not one per action.
    """
    greedy = EpsilonGreedy(count_actions(env), seed=seed, epsilon=epsilon, rng=rng)

    def choose(observation: Any) -> Choice:
        q_values = np.asarray(q_function(observation))
        return greedy(q_values), q_values

    return run_episode(env, choose, seed=seed)
