"""`sndqn replay`: an evaluated episode, checked step by step, as a video or in a window."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sndqn.cli.options import AGENT, Parser, add_evaluation, add_pin, make_console, parse
from sndqn.console import Bar, say

if TYPE_CHECKING:
    from rich.console import Console

    from sndqn.agents.episodes import RecordedEpisode


def run(argv: Sequence[str]) -> None:
    """Replays an episode into a video, a window, or a trace of its own."""
    parser = Parser(
        "replay",
        "Replay an evaluated episode, checking each step against its record, into a video or a "
        "window.",
    )
    parser.add_argument("agent", help=f"{AGENT}; or an episodes.jsonl or .trace.json file")
    parser.add_argument("--episode", metavar="N", default="best", help="0, 1, ...; best (default)")
    add_evaluation(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="video file (videos/ in the run's folder), or one .trace.json for the episode",
    )
    parser.add_argument("--values", action="store_true", help="show Q-values beside the picture")
    parser.add_argument("--window", action="store_true", help="play in a window instead")
    add_pin(parser)
    arguments = parse(parser, argv)
    if arguments.sha256 is not None and not arguments.values:
        parser.error("--sha256: the agent is read for --values alone. Type --values too")

    from sndqn.agents.episodes import find_episode
    from sndqn.evaluation import rendering_of, show_window, trace_frames, version_differences

    console, output = make_console(), arguments.output
    episode = find_episode(arguments.agent, arguments.episode, arguments.evaluation)
    for line in version_differences(episode.trace):
        say(console, line, style="yellow")
    if output is not None and output.endswith(".trace.json"):
        _write_trace(episode, Path(output), console)
        return
    q_values = _q_values(episode, arguments.sha256, console) if arguments.values else None
    if not arguments.window:
        # pygame then looks for no display, and complains of none, while it draws into memory.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    frames = trace_frames(episode.trace, q_values)
    if arguments.window:
        show_window(frames, rendering_of(episode.trace).fps)
        return
    name = episode.name + ("-values" if arguments.values else "")
    _write_video(episode, frames, Path(output or episode.videos / f"{name}.mp4"), console)


def _write_trace(episode: "RecordedEpisode", file: Path, console: "Console") -> None:
    from sndqn.evaluation import replay_trace, write_trace

    for _ in replay_trace(episode.trace):
        pass
    write_trace(file, episode.trace)
    _say_proved(episode, console)
    say(console, str(file), style="bold")


def _write_video(
    episode: "RecordedEpisode", frames: Iterator[Any], file: Path, console: "Console"
) -> None:
    from sndqn.evaluation import rendering_of, write_video

    with Bar(console, "replaying: ") as bar:
        shown = bar.over(frames, episode.trace.length + 1, "frames")
        count = write_video(file, shown, rendering_of(episode.trace).fps)
    _say_proved(episode, console)
    say(console, f"{file}: {count} frames", style="bold")


def _say_proved(episode: "RecordedEpisode", console: "Console") -> None:
    trace = episode.trace
    say(
        console,
        f"{episode.name}{episode.whose}: return {trace.episode_return:g} in {trace.length} steps, "
        "replayed exactly",
    )


def _q_values(episode: "RecordedEpisode", sha256: str | None, console: "Console") -> Any:
    from sndqn.agents import load_agent

    agent = load_agent(episode.agent, sha256)
    say(console, f"values: {episode.agent}, sha256 {agent.sha256}")
    if episode.trace.agent_sha256 not in (None, agent.sha256):
        say(console, "the episode was played by another agent than this one", style="yellow")
    return agent.q_values
