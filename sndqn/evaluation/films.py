"""A game as a film, or two games next to each other in one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import PurePath
from typing import Any

import numpy as np

from sndqn.errors import ConfigError
from sndqn.evaluation.panel import MIN_HEIGHT
from sndqn.evaluation.pen import BACKGROUND, GREEDY, TEXT, Pen
from sndqn.evaluation.play import QFunction
from sndqn.evaluation.replaying import rendering_of
from sndqn.evaluation.traces import Trace
from sndqn.evaluation.videos import trace_frames

# In the units of a picture 400 high.
_CAPTION_HEIGHT, _LETTERS, _MARGIN, _GAP = 32, 15, 10, 8
_DIMMED = 0.4
_SECONDS_OF_RESULT = 1
# What training alone does to a game, what an agent sees of it, and a name of the other settings.
_GAMES_ARE_ALIKE_BUT_FOR = {
    *("life_loss", "clip_rewards"),
    *("frame_stack", "screen_size", "arranged"),
    "protocol",
}


@dataclass(frozen=True)
class Film:
    """Pictures of a game, or of two.

    Attributes:
        frames: RGB uint8 of one shape, made as they are asked for; they check each step against
            its record, as `replay_trace`.
        fps: How many are shown in a second.
        length: How many there are; a game of Atari that ends within a step has up to 3 fewer.
    """

    frames: Iterator[np.ndarray]
    fps: float
    length: int


@dataclass(frozen=True)
class Side:
    """One of two games that are shown next to each other.

    Attributes:
        name: Stands above it.
        trace: The game.
        q_function: Where given, a panel shows its values.
    """

    name: str
    trace: Trace
    q_function: QFunction | None = None


def film(trace: Trace, q_function: QFunction | None = None, *, every_frame: bool = True) -> Film:
    """Makes the film of a game.

    Args:
        trace: The game.
        q_function: Where given, a panel beside the picture shows its values.
        every_frame: Whether all 60 frames a second of an Atari game are shown, not one a step.

    Raises:
        TraceError: The game's settings make no environment.
        MissingExtraError: A package that draws it is not installed.
    """
    rendering = rendering_of(trace)
    per_step = rendering.frames_per_step if every_frame else 1
    frames = trace_frames(
        trace, q_function, action_names=rendering.action_names, every_frame=every_frame
    )
    return Film(frames, rendering.fps * per_step, 1 + trace.length * per_step)


def film_of_two(sides: tuple[Side, Side], *, every_frame: bool = True) -> Film:
    """Makes the film of two games that begin alike, next to each other.

    Each has its name and its return above it. A game that is over stays as its last picture, dimmed
    under its final return; both do in the last second.

    Args:
        sides: The games: the same environment and seed.
        every_frame: As for `film`.

    Raises:
        ConfigError: They are of two environments, or of two seeds.
        TraceError: Their settings make no environment.
        MissingExtraError: A package that draws it is not installed.
    """
    one, other = (side.trace for side in sides)
    check_same_environment(one.settings, other.settings)
    if one.seed != other.seed:
        raise ConfigError(
            f"side by side: expected games of one seed, found {one.seed} and {other.seed}"
        )
    rendering = rendering_of(one)
    per_step = rendering.frames_per_step if every_frame else 1
    fps = rendering.fps * per_step
    closing = max(round(_SECONDS_OF_RESULT * fps), 1)
    names = _short_names([side.name for side in sides])
    halves = [
        _captioned(
            name,
            side.trace,
            trace_frames(
                side.trace,
                side.q_function,
                action_names=rendering.action_names,
                every_frame=every_frame,
            ),
            per_step,
        )
        for name, side in zip(names, sides, strict=True)
    ]
    longest = max(side.trace.length for side in sides)
    return Film(_joined(halves, closing), fps, 1 + longest * per_step + closing)


def check_same_environment(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuses the settings of two environments.

    Args:
        one: Settings as JSON data.
        other: Those of a game, or of an agent, that is to be seen beside it.

    Raises:
        ConfigError: They differ.
    """
    all_keys = {*one, *other} - _GAMES_ARE_ALIKE_BUT_FOR
    keys = sorted(key for key in all_keys if one.get(key) != other.get(key))
    if keys:
        # The game first: where it differs, so does much that follows from it.
        key = next((key for key in ("suite", "game", "env_id") if key in keys), keys[0])
        raise ConfigError(
            f"side by side: expected two agents of one environment, found {key} {one.get(key)} "
            f"and {other.get(key)}"
        )


def _short_names(names: Sequence[str]) -> list[str]:
    """Leaves out the folders that all names begin with, which tell nothing apart."""
    parts = [PurePath(name).parts or (name,) for name in names]
    while min(map(len, parts)) > 1 and len({each[0] for each in parts}) == 1:
        parts = [each[1:] for each in parts]
    return ["/".join(each) for each in parts]


def _captioned(
    name: str, trace: Trace, frames: Iterator[np.ndarray], frames_per_step: int
) -> Iterator[tuple[np.ndarray, bool]]:
    """Yields pictures below their captions, and whether the game is over: then the last again."""
    returns = [0.0, *np.cumsum(trace.rewards, dtype=np.float64).tolist()]
    for number, frame in enumerate(frames):
        # What is between two steps still has the return of the first.
        words = f"return {returns[number // frames_per_step]:.6g}"
        yield _below_caption(frame, name, words), False
    dimmed = (_DIMMED * frame).astype(np.uint8)
    words = f"final return {trace.episode_return:.6g}"
    yield from repeat((_below_caption(dimmed, name, words, final=True), True))


def _joined(
    halves: Sequence[Iterator[tuple[np.ndarray, bool]]], closing: int
) -> Iterator[np.ndarray]:
    """Yields pictures next to each other until both games are over, and some more."""
    for pictures in zip(*halves, strict=True):
        (left, left_over), (right, right_over) = pictures
        gap = round(_GAP * left.shape[0] / MIN_HEIGHT)
        whole = np.empty((left.shape[0], left.shape[1] + gap + right.shape[1], 3), np.uint8)
        whole[:] = BACKGROUND
        whole[:, : left.shape[1]], whole[:, left.shape[1] + gap :] = left, right
        if left_over and right_over:
            yield from repeat(whole, closing)
            return
        yield whole


def _below_caption(frame: np.ndarray, name: str, words: str, *, final: bool = False) -> np.ndarray:
    zoom = frame.shape[0] / MIN_HEIGHT
    height = round(_CAPTION_HEIGHT * zoom)
    whole = np.empty((height + frame.shape[0], frame.shape[1], 3), np.uint8)
    whole[:height], whole[height:] = BACKGROUND, frame
    pen, right, middle = Pen(whole, zoom), frame.shape[1] / zoom - _MARGIN, _CAPTION_HEIGHT / 2
    pen.text(right, middle, words, _LETTERS, GREEDY if final else TEXT, "right")
    room = right - pen.width(words, _LETTERS) - 3 * _MARGIN
    pen.text(_MARGIN, middle, _cut(pen, name, room), _LETTERS, TEXT)
    return whole


def _cut(pen: Pen, name: str, room: float) -> str:
    """Returns as much of a name as has room."""
    if pen.width(name, _LETTERS) <= room:
        return name
    while name and pen.width(f"{name}...", _LETTERS) > room:
        name = name[:-1]
    return f"{name}..."
