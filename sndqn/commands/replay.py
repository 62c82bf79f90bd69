"""`sndqn replay`: an evaluated episode, checked step by step, as a video or in a window."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from sndqn.errors import RunFolderError
from sndqn.evaluation import (
    Trace,
    read_trace,
    rendering_of,
    show_window,
    trace_frames,
    version_differences,
    write_video,
)
from sndqn.progress import Pulse
from sndqn.runs.folder import RunFolder
from sndqn.terminal import say
from sndqn.zoo import AgentPlace, find_agent, load_agent
from sndqn.zoo.evaluations import chosen_evaluation, names_of, read_evaluation


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
        given: A trace, or as for `sndqn.zoo.find_agent`.
        episode: Its number, or "best".
        evaluation: Name of the evaluation the episode is of; None for its own.
        output: The video's file; None for videos/ in the evaluation's folder.
        values: Whether to show Q-values beside the picture.
        window: Whether to show a window instead.
        sha256: What the SHA-256 of the agent's file must be; None takes any.
        console: Where to say how it goes.
    """
    path, agent, videos, which = _locate(given, episode, evaluation)
    trace = read_trace(path)
    q_values = _q_values(agent, trace, sha256, console) if values else None
    for line in version_differences(trace):
        say(console, line, style="yellow")
    if not window:
        # pygame then looks for no display, and complains of none, while it draws into memory.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    frames = trace_frames(trace, q_values)
    fps = rendering_of(trace).fps
    if window:
        show_window(frames, fps)
        return
    name = path.name.removesuffix(".trace.json") + ("-values" if values else "")
    file = Path(output) if output else videos / f"{name}.mp4"
    count = write_video(file, _with_progress(frames, trace.length + 1, console), fps)
    say(
        console,
        f"{path.name}{which}: return {trace.episode_return:g} in {trace.length} steps, replayed "
        "exactly",
    )
    say(console, f"{file}: {count} frames", style="bold")


def _locate(given: str, episode: str, evaluation: str | None) -> tuple[Path, Path, Path, str]:
    """Finds a trace, the agent that played it, the folder for its videos, and whose it is."""
    path = Path(given)
    if path.suffix == ".json":
        agents = [RunFolder(folder).agent for folder in path.absolute().parents[1:4]]
        agent = next((file for file in agents if file.is_file()), agents[0])
        return path, agent, path.parent, ""
    place = find_agent(given)
    folder, which = chosen_evaluation(place, evaluation)
    videos = place.output.videos if folder is place.folder else folder.videos
    return _chosen_trace(given, place, folder, episode), place.file, videos, f" of {which}"


def _chosen_trace(given: str, place: AgentPlace, folder: RunFolder, episode: str) -> Path:
    record = read_evaluation(folder)
    if record is None:
        others = names_of(place.output)
        todo = f"sndqn evaluate {given}"
        if others:
            todo = f"--evaluation {others[0]}" + (
                f", or {', '.join(others[1:])}" if others[1:] else ""
            )
        raise RunFolderError(f"{given} has no evaluation of its own yet: type {todo}")
    if episode == "best":
        return folder.trace(record.returns.index(record.max))
    last = len(record.episodes) - 1
    if not (episode.isascii() and episode.isdigit() and len(episode) < 10 and int(episode) <= last):
        raise RunFolderError(
            f"--episode: expected best or a number from 0 to {last}, found {episode!r}"
        )
    return folder.trace(int(episode))


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
