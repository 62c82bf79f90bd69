"""`sndqn replay`: an evaluated episode, checked step by step, as a video or in a window."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from sndqn.agents import AgentPlace, find_agent, load_agent
from sndqn.agents.evaluations import chosen_evaluation, names_of, read_evaluation, read_trace_of
from sndqn.console import Pulse, say
from sndqn.errors import RunFolderError
from sndqn.evaluation import (
    Trace,
    read_episode,
    read_episodes,
    read_trace,
    rendering_of,
    replay_trace,
    show_window,
    trace_frames,
    version_differences,
    write_trace,
    write_video,
)
from sndqn.runs.folder import RunFolder

_MAX_EPISODES = 10**6


def replay(
    given: str,
    episode: str,
    evaluation: str | None,
    output: str | None,
    values: bool,
    window: bool,
    sha256: str | None,
    console: Console,
) -> None:
    """Replays an episode.

    Args:
        given: A file of traces, or as for `sndqn.agents.find_agent`.
        episode: Its number, or "best".
        evaluation: Name of the evaluation the episode is of; None for its own.
        output: The video's file, or one .trace.json for the episode itself; None for a video in
            videos/ in the evaluation's folder.
        values: Whether to show Q-values beside the picture.
        window: Whether to show a window instead.
        sha256: What the SHA-256 of the agent's file must be; None takes any.
        console: Where to say how it goes.
    """
    found = _find(given, episode, evaluation)
    trace, proved = found.trace, f"{found.name}{found.whose}: return {found.trace.episode_return:g}"
    proved += f" in {trace.length} steps, replayed exactly"
    for line in version_differences(trace):
        say(console, line, style="yellow")
    if output is not None and output.endswith(".trace.json"):
        for _ in replay_trace(trace):
            pass
        write_trace(Path(output), trace)
        say(console, proved)
        say(console, output, style="bold")
        return
    q_values = _q_values(found.agent, trace, sha256, console) if values else None
    if not window:
        # pygame then looks for no display, and complains of none, while it draws into memory.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    frames = trace_frames(trace, q_values)
    fps = rendering_of(trace).fps
    if window:
        show_window(frames, fps)
        return
    name = found.name + ("-values" if values else "")
    file = Path(output) if output else found.videos / f"{name}.mp4"
    count = write_video(file, _with_progress(frames, trace.length + 1, console), fps)
    say(console, proved)
    say(console, f"{file}: {count} frames", style="bold")


class _Recorded(NamedTuple):
    """An episode to replay.

    Attributes:
        trace: Its record.
        name: What to call it: "episode-003".
        agent: The file of the agent that played it.
        videos: Folder for its videos.
        whose: Words that say which evaluation it is of.
    """

    trace: Trace
    name: str
    agent: Path
    videos: Path
    whose: str = ""


def _find(given: str, episode: str, evaluation: str | None) -> _Recorded:
    """Finds the episode that someone typed."""
    path = Path(given)
    if path.suffix in (".json", ".jsonl"):
        return _in_file(path, episode)
    place = find_agent(given)
    folder, which = chosen_evaluation(place, evaluation)
    videos = place.output.videos if folder is place.folder else folder.videos
    record = read_evaluation(folder)
    if record is None:
        raise RunFolderError(
            f"{given} has no evaluation of its own yet: type {_todo(given, place)}"
        )
    if episode == "best":
        number = record.returns.index(record.max)
    else:
        number = _number(episode, len(record.episodes) - 1)
    trace = read_trace_of(folder, number)
    return _Recorded(trace, _name(number), place.file, videos, f" of {which}")


def _in_file(path: Path, episode: str) -> _Recorded:
    """Finds an episode in a file of one trace, or of an evaluation's."""
    agents = [RunFolder(folder).agent for folder in path.absolute().parents[:4]]
    agent = next((file for file in agents if file.is_file()), agents[0])
    if path.suffix == ".json":
        name = path.name.removesuffix(".trace.json")
        return _Recorded(read_trace(path), name, agent, path.parent)
    if episode == "best":
        numbered = enumerate(read_episodes(path))
        number, trace = max(numbered, key=lambda each: each[1].episode_return, default=(0, None))
    else:
        number, trace = _number(episode, _MAX_EPISODES), None
    trace = trace or read_episode(path, number)
    return _Recorded(trace, _name(number), agent, RunFolder(path.parent).videos)


def _todo(given: str, place: AgentPlace) -> str:
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


def _q_values(file: Path, trace: Trace, sha256: str | None, console: Console) -> Any:
    agent = load_agent(file, sha256)
    say(console, f"values: {file}, sha256 {agent.sha256}")
    if trace.agent_sha256 not in (None, agent.sha256):
        say(console, "the episode was played by another agent than this one", style="yellow")
    return agent.q_values


def _with_progress(frames: Iterator[Any], total: int, console: Console) -> Iterator[Any]:
    with Pulse(console) as pulse:
        for number, frame in enumerate(frames):
            pulse.show(lambda number=number: f"replaying: {number:,} of {total:,} frames")  # type: ignore[misc]
            yield frame
