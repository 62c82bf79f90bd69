"""One generator of an episode's steps: the only place where an agent acts outside training.

Evaluation, traces, videos and windows all read these steps, so they cannot disagree about what an
episode is, when it ends, or how a random action is drawn.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from sndqn.errors import SndqnError, TrainingError, UnsupportedSpaceError

Env = gym.Env[Any, Any]
QFunction = Callable[[Any], np.ndarray]
"""Maps one observation to its Q-values, shape (n_actions,)."""

Choice = tuple[int, np.ndarray | None]


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
    """Return the number of actions of an environment.

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


def run_episode(env: Env, choose: Callable[[Any], Choice], *, seed: int) -> Iterator[Step]:
    """Reset `env` with `seed` and act until the episode ends.

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
    with _failures_of(env):
        observation, _ = env.reset(seed=seed)
    yield Step(observation, None, 0.0, terminated=False, truncated=False, q_values=None)
    ended = False
    while not ended:
        action, q_values = choose(observation)
        with _failures_of(env):
            observation, reward, terminated, truncated, _ = env.step(action)
        yield Step(observation, action, float(reward), bool(terminated), bool(truncated), q_values)
        ended = bool(terminated or truncated)


class _failures_of:
    """Turns what an environment raises, someone else's code, into an error of one line."""

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
    """Play one ε-greedy episode.

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
    n_actions = count_actions(env)
    if rng is None:
        # A child of the seed: the environment seeds its own generator with the seed itself, and
        # random actions must not follow the same stream as the game's randomness.
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))

    def choose(observation: Any) -> Choice:
        q_values = np.asarray(q_function(observation))
        if q_values.shape != (n_actions,):
            raise UnsupportedSpaceError(
                f"expected one Q-value per action, shape ({n_actions},), found {q_values.shape}; "
                "use an agent trained for this environment"
            )
        if rng.random() < epsilon:
            return int(rng.integers(n_actions)), q_values
        return int(q_values.argmax()), q_values

    return run_episode(env, choose, seed=seed)
