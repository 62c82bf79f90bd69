"""What an evaluation is, and its result: a score that carries the episodes proving it."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from sndqn.errors import ConfigError, TraceError
from sndqn.evaluation.play import QFunction
from sndqn.evaluation.recording import record_trace
from sndqn.evaluation.traces import EndedBy, Trace

if TYPE_CHECKING:
    from sndqn.envs import EnvSettings

SCHEMA = "sndqn-evaluation-1"
STEPS_WITHOUT_LIMIT = 1_000
"""Steps after which an episode is cut where neither environment nor protocol has a limit.

A greedy agent may walk against a wall for ever. Gymnasium's own limits are 100 to 1000 steps.
"""


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """How an agent is evaluated.

    Attributes:
        episodes: Number of episodes.
        epsilon: Probability of a random action.
        seed: Every episode's seed follows from it; see `episode_seed`.
        max_steps: Cut an episode after this many steps; None plays every episode to its own end,
            or `STEPS_WITHOUT_LIMIT` where the environment is Gymnasium's and has no time limit.

    Raises:
        ConfigError: A number is out of range.
    """

    episodes: int = 10
    epsilon: float = 0.0
    seed: int = 0
    max_steps: int | None = None

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ConfigError(f"expected episodes of at least 1, found {self.episodes}")
        if not 0.0 <= self.epsilon <= 1.0:
            raise ConfigError(f"expected epsilon from 0 to 1, found {self.epsilon}")
        if self.seed < 0:
            raise ConfigError(f"expected seed of at least 0, found {self.seed}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(f"expected max_steps of at least 1 or none, found {self.max_steps}")

    def episode_seed(self, episode: int) -> int:
        """Return the 31-bit seed of an episode, counted from 0.

        The law: the lower 31 bits of the first 32-bit word of child `episode` of
        `numpy.random.SeedSequence(self.seed)`, the same as `spawn` numbers its children.
        """
        child = np.random.SeedSequence(self.seed, spawn_key=(episode,))
        return int(child.generate_state(1)[0]) & 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """One episode's line in an evaluation.

    Attributes:
        seed: Seed of the reset.
        episode_return: Undiscounted sum of the raw rewards, those of a cut episode too.
        length: Number of actions.
        ended_by: "terminated", "truncated" or, where the protocol cut it, "max_steps".
        trace_sha256: Which trace proves it.
    """

    seed: int
    episode_return: float
    length: int
    ended_by: EndedBy
    trace_sha256: str

    @classmethod
    def from_trace(cls, trace: Trace) -> "EpisodeResult":
        """Summarise a trace."""
        return cls(
            seed=trace.seed,
            episode_return=trace.episode_return,
            length=trace.length,
            ended_by=trace.ended_by,
            trace_sha256=trace.sha256,
        )


@dataclass(frozen=True)
class EvaluationRecord:
    """The result of an evaluation.

    Attributes:
        protocol: How the agent was evaluated.
        settings: The environment's settings, as JSON data.
        episodes: One line per episode.
        agent_sha256: SHA-256 of the agent's file; None for an agent that was in no file.
        traces: The episodes themselves; not part of `to_dict`, empty after `from_dict`.
    """

    protocol: EvaluationProtocol
    settings: dict[str, Any]
    episodes: tuple[EpisodeResult, ...]
    agent_sha256: str | None = None
    traces: tuple[Trace, ...] = ()

    @property
    def returns(self) -> list[float]:
        """Return of each episode."""
        return [episode.episode_return for episode in self.episodes]

    @property
    def lengths(self) -> list[int]:
        """Number of actions of each episode."""
        return [episode.length for episode in self.episodes]

    @property
    def seeds(self) -> list[int]:
        """Seed of each episode."""
        return [episode.seed for episode in self.episodes]

    @property
    def ended_by(self) -> list[EndedBy]:
        """How each episode ended."""
        return [episode.ended_by for episode in self.episodes]

    @property
    def mean(self) -> float:
        """Mean return."""
        return statistics.fmean(self.returns)

    @property
    def std(self) -> float:
        """Population standard deviation of the returns, as `numpy.std`."""
        return statistics.pstdev(self.returns)

    @property
    def median(self) -> float:
        """Median return."""
        return statistics.median(self.returns)

    @property
    def min(self) -> float:
        """Smallest return."""
        return min(self.returns)

    @property
    def max(self) -> float:
        """Largest return."""
        return max(self.returns)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the traces, ready for JSON, with the statistics for its reader."""
        return {
            "schema": SCHEMA,
            "protocol": asdict(self.protocol),
            "settings": self.settings,
            "agent_sha256": self.agent_sha256,
            "mean": self.mean,
            "std": self.std,
            "median": self.median,
            "min": self.min,
            "max": self.max,
            "episodes": [asdict(episode) for episode in self.episodes],
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "EvaluationRecord":
        """Read what `to_dict` gave; the statistics are computed again and must agree.

        Raises:
            TraceError: Anything is missing, unknown, of a wrong type, or contradicts the rest.
        """
        try:
            record = cls(
                protocol=EvaluationProtocol(**document["protocol"]),
                settings=document["settings"],
                episodes=tuple(EpisodeResult(**episode) for episode in document["episodes"]),
                agent_sha256=document["agent_sha256"],
            )
            agrees = record._is_consistent() and record.to_dict() == document
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise TraceError(f"expected a record of schema {SCHEMA}, found: {error!r}") from error
        if not agrees:
            raise TraceError(
                f"expected statistics and seeds that follow from the episodes in schema {SCHEMA}, "
                "found others; evaluate the agent again"
            )
        return record

    def _is_consistent(self) -> bool:
        # By the lines that are there: the protocol's number may be anything.
        seeds = [self.protocol.episode_seed(k) for k in range(len(self.episodes))]
        known_ends = all(ended in get_args(EndedBy) for ended in self.ended_by)
        all_there = len(self.episodes) == self.protocol.episodes and self.seeds == seeds
        return all_there and known_ends and isinstance(self.settings, dict)


def limited(protocol: EvaluationProtocol, settings: "EnvSettings") -> EvaluationProtocol:
    """Return the protocol with `STEPS_WITHOUT_LIMIT` where else nothing would end an episode."""
    from sndqn.envs import has_time_limit

    if protocol.max_steps is not None or has_time_limit(settings):
        return protocol
    return replace(protocol, max_steps=STEPS_WITHOUT_LIMIT)


def evaluate(
    settings: "EnvSettings",
    q_function: QFunction,
    protocol: EvaluationProtocol,
    *,
    on_episode: Callable[[int, Trace], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    agent_sha256: str | None = None,
) -> EvaluationRecord:
    """Play the protocol's episodes one after another in a single environment.

    The record's protocol says after how many steps episodes were cut, if they were.

    Args:
        settings: An environment's settings, of `sndqn.envs`.
        q_function: The agent; maps one observation to Q-values, shape (n_actions,).
        protocol: How many episodes, which seeds, how much randomness.
        on_episode: Called after each episode with its number, from 0, and its trace.
        on_step: Called after each step with the episode's number and the number of its steps.
        agent_sha256: SHA-256 of the agent's file, for the record.
    """
    from sndqn.envs import make_env

    protocol = limited(protocol, settings)
    env = make_env(settings)
    traces = []
    try:
        for number in range(protocol.episodes):
            trace = record_trace(
                env,
                settings,
                q_function,
                seed=protocol.episode_seed(number),
                epsilon=protocol.epsilon,
                max_steps=protocol.max_steps,
                agent_sha256=agent_sha256,
                on_step=None if on_step is None else partial(on_step, number),
            )
            traces.append(trace)
            if on_episode is not None:
                on_episode(number, trace)
    finally:
        env.close()
    return EvaluationRecord(
        protocol=protocol,
        settings=traces[0].settings,
        episodes=tuple(EpisodeResult.from_trace(trace) for trace in traces),
        agent_sha256=agent_sha256,
        traces=tuple(traces),
    )
