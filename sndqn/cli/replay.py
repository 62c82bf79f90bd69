"""`sndqn replay`: an evaluated episode, checked step by step, as a video or in a window."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sndqn.cli.options import (
    AGENT,
    Parser,
    add_evaluation,
    add_pin,
    add_told,
    make_console,
    parse,
    told,
)
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
        help="video file, .mp4, .gif or .webm (videos/ in the run's folder), or one .trace.json "
        "for the episode",
    )
    parser.add_argument("--values", action="store_true", help="show Q-values beside the picture")
    parser.add_argument(
        "--every-frame",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show all 60 frames a second of an Atari game, not one a step (default)",
    )
    parser.add_argument(
        "--poster", action="store_true", help="write a picture of the middle beside the video, too"
    )
    parser.add_argument("--window", action="store_true", help="play in a window instead")
    add_pin(parser)
    add_told(parser)
    arguments = parse(parser, argv)
    if arguments.sha256 is not None and not arguments.values:
        parser.error("--sha256: the agent is read for --values alone. Type --values too")

    from sndqn.agents.episodes import find_episode
    from sndqn.evaluation import (
        rendering_of,
        show_window,
        trace_frames,
        version_differences,
        with_poster,
        write_video,
    )

    console, output = make_console(), arguments.output
    episode = find_episode(
        arguments.agent, arguments.episode, arguments.evaluation, told(arguments)
    )
    for line in version_differences(episode.trace):
        say(console, line, style="yellow")
    if output is not None and output.endswith(".trace.json"):
        _write_trace(episode, Path(output), console)
        return
    q_values = _q_values(episode, arguments.sha256, console) if arguments.values else None
    if not arguments.window:
        # pygame then looks for no display, and complains of none, while it draws into memory.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    trace, rendering = episode.trace, rendering_of(episode.trace)
    names, every_frame = rendering.action_names, arguments.every_frame
    frames = trace_frames(trace, q_values, action_names=names, every_frame=every_frame)
    per_step = rendering.frames_per_step if every_frame else 1
    if arguments.window:
        show_window(frames, rendering.fps * per_step)
        return
    name = episode.name + ("-values" if arguments.values else "")
    file = Path(output or episode.videos / f"{name}.mp4")
    total = 1 + trace.length * per_step
    with Bar(console, "replaying: ") as bar:
        shown = bar.over(frames, total, "frames")
        if arguments.poster:
            shown = with_poster(shown, file.with_suffix(".png"), total // 2)
        count = write_video(file, shown, rendering.fps * per_step)
    _say_proved(episode, console)
    say(console, f"{file}: {count} frames", style="bold")


def _write_trace(episode: "RecordedEpisode", file: Path, console: "Console") -> None:
    from sndqn.evaluation import replay_trace, write_trace

    for _ in replay_trace(episode.trace):
        pass
    write_trace(file, episode.trace)
    _say_proved(episode, console)
    say(console, str(file), style="bold")


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
    return agent.values
