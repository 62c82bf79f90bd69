"""What an evaluation is, and its result: a score that carries the episodes proving it."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from sndqn.errors import ConfigError, TraceError
from sndqn.evaluation.hopeless import Stillness
from sndqn.evaluation.play import Env, QFunction
from sndqn.evaluation.recording import Recorder
from sndqn.evaluation.side_by_side import Player, play_side_by_side, start
from sndqn.evaluation.traces import EndedBy, Trace
from sndqn.evaluation.unfinished import UnfinishedEvaluation

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
        end_hopeless: Whether to cut an Atari game in which nothing but a counter has changed on the
            screen for a minute of play, see `Stillness`. Part of no published protocol.

    Raises:
        ConfigError: A number is out of range.
    """

    episodes: int = 10
    epsilon: float = 0.0
    seed: int = 0
    max_steps: int | None = None
    end_hopeless: bool = False

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ConfigError(f"expected episodes of at least 1, found {self.episodes}")
        if not 0.0 <= self.epsilon <= 1.0:
            raise ConfigError(f"expected epsilon from 0 to 1, found {self.epsilon}")
        if self.seed < 0:
            raise ConfigError(f"expected seed of at least 0, found {self.seed}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(f"expected max_steps of at least 1 or none, found {self.max_steps}")

    def to_dict(self) -> dict[str, Any]:
        """Returns the protocol as JSON data; `end_hopeless` only where it is on."""
        fields = asdict(self)
        if not self.end_hopeless:
            del fields["end_hopeless"]
        return fields

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
        ended_by: "terminated", "truncated" or, where the protocol cut it, "max_steps" or
            "hopeless".
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
            "protocol": self.protocol.to_dict(),
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
    n_envs: int | None = None,
    unfinished: Path | None = None,
) -> EvaluationRecord:
    """Plays the protocol's episodes side by side.

    The record's protocol says after how many steps episodes were cut, if they were. An episode
    depends on settings, seed and agent alone: the record is the same for any `n_envs`.

    Args:
        settings: An environment's settings, of `sndqn.envs`.
        q_function: The agent; maps one observation to Q-values, shape (n_actions,). One that takes
            many at once, `NetworkValues`, is faster.
        protocol: How many episodes, which seeds, how much randomness.
        on_episode: Called when an episode is over with its number, from 0, and its trace.
        on_step: Called after each step with the episode's number and the number of its steps.
        agent_sha256: SHA-256 of the agent's file, for the record.
        n_envs: Environments side by side; by default up to 16 of Atari and 32 of others.
        unfinished: A file that keeps finished episodes until all are: those of the same evaluation
            that are in it are not played again. It is the caller's to remove, by `forget`, once the
            record is written.

    Raises:
        ConfigError: The protocol ends hopeless games of what is no Atari game.
    """
    from sndqn.evaluation.values import one_thread

    protocol = limited(protocol, settings)
    if protocol.end_hopeless:
        Stillness(settings)
    kept = UnfinishedEvaluation(unfinished, settings, protocol, agent_sha256)
    for number, trace in sorted(kept.traces.items()):
        if on_episode is not None:
            on_episode(number, trace)
    missing = [number for number in range(protocol.episodes) if number not in kept.traces]
    n_envs = min(n_envs or _side_by_side(settings), len(missing))
    try:
        with one_thread():
            for number, trace in _played(
                settings, q_function, protocol, missing, n_envs, on_step, agent_sha256
            ):
                kept.add(number, trace)
                if on_episode is not None:
                    on_episode(number, trace)
    except BaseException:
        kept.write()
        raise
    traces = [kept.traces[number] for number in range(protocol.episodes)]
    return EvaluationRecord(
        protocol=protocol,
        settings=traces[0].settings,
        episodes=tuple(EpisodeResult.from_trace(trace) for trace in traces),
        agent_sha256=agent_sha256,
        traces=tuple(traces),
    )


def _side_by_side(settings: "EnvSettings") -> int:
    """Returns how many environments are best: more emulators share the same cores."""
    from sndqn.envs import AtariSettings

    return 16 if isinstance(settings, AtariSettings) else 32


def _played(
    settings: "EnvSettings",
    q_function: QFunction,
    protocol: EvaluationProtocol,
    numbers: Sequence[int],
    n_envs: int,
    on_step: Callable[[int, int], None] | None,
    agent_sha256: str | None,
) -> Iterator[tuple[int, Trace]]:
    """Plays the episodes of these numbers; yields each when it is over."""
    from sndqn.envs import make_env

    def begin(env: Env, number: int) -> Player:
        seed, epsilon = protocol.episode_seed(number), protocol.epsilon
        recorder = Recorder(
            settings,
            seed=seed,
            epsilon=epsilon,
            max_steps=protocol.max_steps,
            end_hopeless=protocol.end_hopeless,
            agent_sha256=agent_sha256,
        )
        return start(env, number, seed=seed, epsilon=epsilon, recorder=recorder)

    with ExitStack() as stack:
        envs = []
        for _ in range(n_envs):
            envs.append(make_env(settings))
            stack.callback(envs[-1].close)
        yield from play_side_by_side(envs, numbers, begin, q_function, on_step)
