"""Which recorded episode is meant: one of an evaluation, or of a file of traces.

And the game of the same seed that another agent plays.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sndqn.agents.agents import Agent, load_agent
from sndqn.agents.evaluations import chosen_evaluation, names_of, read_evaluation, read_trace_of
from sndqn.agents.find import AgentPlace, find_agent
from sndqn.agents.hub_names import is_hub_name
from sndqn.agents.told import Told
from sndqn.envs import make_env, settings_from_dict
from sndqn.errors import RunFolderError
from sndqn.evaluation import (
    EpisodeResult,
    EvaluationProtocol,
    Trace,
    read_episode,
    read_episodes,
    read_trace,
    record_trace,
)
from sndqn.evaluation.films import check_same_environment
from sndqn.evaluation.protocol import limited
from sndqn.evaluation.values import one_thread
from sndqn.runs.folder import RunFolder

_MAX_EPISODES = 10**6


@dataclass(frozen=True)
class RecordedEpisode:
    """An episode to replay.

    Attributes:
        trace: Its record.
        name: What to call it: "episode-003".
        agent: The file of the agent that played it.
        videos: Folder for its videos.
        whose: Words that say which evaluation it is of.
        player: The agent itself, if it has been read.
    """

    trace: Trace
    name: str
    agent: Path
    videos: Path
    whose: str = ""
    player: Agent | None = None

    def load_agent(self, sha256: str | None = None) -> Agent:
        """Builds the agent that played it.

        Raises:
            AgentFileError: As `sndqn.agents.load_agent`.
        """
        return self.player or load_agent(self.agent, sha256)


def find_episode(
    given: str, episode: str, evaluation: str | None = None, told: Told | None = None
) -> RecordedEpisode:
    """Finds the episode that the user typed.

    Args:
        given: A file of traces, or as for `find_agent`.
        episode: Its number, or "best".
        evaluation: Name of the evaluation it is of; None for the agent's own.
        told: As for `find_agent`.

    Raises:
        RunFolderError: There is none.
        TraceError: Its record is damaged.
    """
    path = Path(given)
    if path.suffix in (".json", ".jsonl") and not is_hub_name(given):
        return _in_file(path, episode)
    place = find_agent(given, told)
    folder, which = chosen_evaluation(place, evaluation)
    videos = place.output.videos if folder is place.folder else folder.videos
    record = read_evaluation(folder)
    if record is None:
        raise RunFolderError(
            f"{given} has no evaluation of its own yet: type {_remedy(given, place)}"
        )
    if episode == "best":
        number = min(range(len(record.episodes)), key=lambda k: _badness(record.episodes[k]))
    else:
        number = _number(episode, len(record.episodes) - 1)
    trace = read_trace_of(folder, number)
    return RecordedEpisode(trace, _name(number), place.kept, videos, f" of {which}")


def game_beside(
    place: AgentPlace,
    trace: Trace,
    player: Agent | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> RecordedEpisode:
    """Finds the game that another agent played of a trace's environment and seed.

    If its own evaluation has none of this seed, it plays one now, as random as the trace says.

    Args:
        place: The other agent's.
        trace: The game to stand beside.
        player: The other agent, if it has been read.
        on_step: Called while it plays, as by `record_trace`.

    Raises:
        ConfigError: The agents are of two environments.
        SndqnError: The agent or its evaluation is damaged.
    """
    player = player or place.load(default=settings_from_dict(trace.settings))
    settings = player.description.settings
    check_same_environment(trace.settings, settings.to_dict())
    record = read_evaluation(place.folder)
    if record is not None and trace.seed in record.seeds:
        number = record.seeds.index(trace.seed)
        found = read_trace_of(place.folder, number)
        name, whose = _name(number), f" of {place.label}"
        return RecordedEpisode(found, name, place.kept, place.output.videos, whose, player)
    limit = limited(EvaluationProtocol(), settings).max_steps
    env = make_env(settings)
    try:
        with one_thread():
            played = record_trace(
                env,
                settings,
                player.values,
                seed=trace.seed,
                epsilon=trace.epsilon,
                max_steps=trace.length if trace.ended_by == "max_steps" else limit,
                agent_sha256=player.sha256,
                on_step=on_step,
            )
    finally:
        env.close()
    name, whose = f"seed-{trace.seed}", f" of {place.label}, played now"
    return RecordedEpisode(played, name, place.kept, place.output.videos, whose, player)


def _in_file(path: Path, episode: str) -> RecordedEpisode:
    """Finds an episode in a file of one trace, or of an evaluation's."""
    agents = [RunFolder(folder).agent for folder in path.absolute().parents[:4]]
    agent = next((file for file in agents if file.is_file()), agents[0])
    if path.suffix == ".json":
        name = path.name.removesuffix(".trace.json")
        return RecordedEpisode(read_trace(path), name, agent, path.parent)
    if episode == "best":
        numbered = enumerate(read_episodes(path))
        number, trace = min(numbered, key=lambda each: _badness(each[1]), default=(0, None))
    else:
        number, trace = _number(episode, _MAX_EPISODES), None
    trace = trace or read_episode(path, number)
    return RecordedEpisode(trace, _name(number), agent, RunFolder(path.parent).videos)


def _badness(episode: EpisodeResult | Trace) -> tuple[float, int]:
    """Orders episodes, the best first: of equal returns, the shortest."""
    return -episode.episode_return, episode.length


def _remedy(given: str, place: AgentPlace) -> str:
    others = names_of(place.output)
    if not others:
        return f"sndqn evaluate {given}"
    more = f", or {', '.join(others[1:])}" if others[1:] else ""
    return f"--evaluation {others[0]}{more}"


def _number(episode: str, last: int) -> int:
    if not (episode.isascii() and episode.isdigit() and len(episode) < 10 and int(episode) <= last):
        raise RunFolderError(
            f"--episode: expected best or a number from 0 to {last}, found {episode!r}"
        )
    return int(episode)


def _name(number: int) -> str:
    return f"episode-{number:03d}"
