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
from sndqn.console import Bar, EpisodeCount, say

if TYPE_CHECKING:
    from rich.console import Console

    from sndqn.agents.episodes import RecordedEpisode
    from sndqn.agents.told import Told
    from sndqn.evaluation.films import Film


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
    parser.add_argument(
        "--side-by-side",
        metavar="AGENT",
        help="another agent of the same environment; its game of the same seed is shown beside",
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

    if arguments.side_by_side is not None and str(arguments.output).endswith(".trace.json"):
        parser.error("--output: a trace is of one game. Leave out --side-by-side")

    from sndqn.agents.episodes import find_episode
    from sndqn.evaluation import show_window, version_differences, with_poster, write_video
    from sndqn.evaluation.films import film

    console, output = make_console(), arguments.output
    told_of, told_of_other = _told_of_each(arguments)
    episode = find_episode(arguments.agent, arguments.episode, arguments.evaluation, told_of)
    for line in version_differences(episode.trace):
        say(console, line, style="yellow")
    if output is not None and output.endswith(".trace.json"):
        _write_trace(episode, Path(output), console)
        return
    if not arguments.window:
        # pygame then looks for no display, and complains of none, while it draws into memory.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    q_values = _q_values(episode, arguments.sha256, console) if arguments.values else None
    shown, name = [episode], episode.name
    if arguments.side_by_side is None:
        pictures = film(episode.trace, q_values, every_frame=arguments.every_frame)
    else:
        other = _game_beside(arguments.side_by_side, episode, told_of_other, console)
        pictures = _film_of_two(arguments, (episode, other), q_values, console)
        shown, name = [episode, other], f"{name}-side-by-side"
    if arguments.window:
        show_window(pictures.frames, pictures.fps)
        return
    name += "-values" if arguments.values else ""
    file = Path(output or episode.videos / f"{name}.mp4")
    with Bar(console, "replaying: ") as bar:
        frames = bar.over(pictures.frames, pictures.length, "frames")
        if arguments.poster:
            frames = with_poster(frames, file.with_suffix(".png"), pictures.length // 2)
        count = write_video(file, frames, pictures.fps)
    for each in shown:
        _say_proved(each, console)
    say(console, f"{file}: {count} frames", style="bold")


def _told_of_each(arguments: argparse.Namespace) -> tuple["Told", "Told"]:
    """Returns what was typed of the agent, and of the one beside it: of zips alone, if one is."""
    from sndqn.agents.find import is_of_sb3
    from sndqn.agents.told import Told

    typed, other = told(arguments), arguments.side_by_side
    if other is None or not is_of_sb3(other):
        return typed, Told()
    return (typed if is_of_sb3(arguments.agent) else Told()), typed


def _game_beside(
    given: str, episode: "RecordedEpisode", told_of_it: "Told", console: "Console"
) -> "RecordedEpisode":
    from sndqn.agents.episodes import game_beside
    from sndqn.agents.find import find_agent

    with Bar(console, f"{given} plays: ") as bar:
        count = EpisodeCount(bar, 1)
        return game_beside(find_agent(given, told_of_it), episode.trace, on_step=count.on_step)


def _film_of_two(
    arguments: argparse.Namespace,
    episodes: tuple["RecordedEpisode", "RecordedEpisode"],
    q_values: Any,
    console: "Console",
) -> "Film":
    from sndqn.evaluation.films import Side, film_of_two

    one, other = episodes
    others_values = _q_values(other, None, console) if arguments.values else None
    return film_of_two(
        (
            Side(arguments.agent, one.trace, q_values),
            Side(arguments.side_by_side, other.trace, others_values),
        ),
        every_frame=arguments.every_frame,
    )


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
    agent = episode.load_agent(sha256)
    say(console, f"values: {episode.agent}, sha256 {agent.sha256}")
    if episode.trace.agent_sha256 not in (None, agent.sha256):
        say(console, "the episode was played by another agent than this one", style="yellow")
    return agent.values
