"""Pictures made legible: enlarged pixels, and a panel that shows what the agent thinks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from sndqn.errors import ConfigError

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

MIN_HEIGHT = 400
"""Doubles Atari (210 rows), enlarges MinAtar 40 times, leaves classic control as it is."""

Colour = tuple[int, int, int]
_BACKGROUND: Colour = (22, 24, 31)
_TRACK: Colour = (42, 46, 58)
_TEXT: Colour = (232, 234, 240)
_FAINT: Colour = (150, 156, 172)
_BAR: Colour = (92, 124, 178)
_GREEDY: Colour = (80, 200, 140)
_RANDOM: Colour = (240, 130, 80)

# All lengths are pixels of a panel 400 high; higher pictures scale them.
_WIDTH = 320
_MARGIN = 16
_ROWS_TOP = 100
_ROWS_BOTTOM = 352
_MAX_ROW = 32
_MIN_FONT = 6
_NAME_WIDTH = 112
_NUMBER_WIDTH = 62


def enlarge(frame: np.ndarray, min_height: int) -> np.ndarray:
    """Repeat pixels a whole number of times until a frame is at least `min_height` high.

    Args:
        frame: Shape (height, width, 3).
        min_height: Height in pixels.

    Returns:
        Shape (height·k, width·k, 3) with the smallest k that is enough.
    """
    factor = max(1, -(-min_height // frame.shape[0]))
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def checked_frame(frame: np.ndarray | None) -> np.ndarray:
    """Return `frame` if it is an RGB picture.

    Raises:
        ConfigError: It is not uint8 of shape (height, width, 3).
    """
    is_rgb = (
        isinstance(frame, np.ndarray)
        and frame.dtype == np.uint8
        and frame.ndim == 3
        and frame.shape[2] == 3
        and frame.size > 0
    )
    if frame is None or not is_rgb:
        found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else repr(frame)
        raise ConfigError(
            f"expected RGB frames, uint8 (height, width, 3), found {found}; "
            'make the environment with render_mode="rgb_array"'
        )
    return frame


@dataclass
class ValuePanel:
    """Draws panels for one episode on one scale, which only ever widens.

    Attributes:
        action_names: One name per action; None shows the actions' numbers.
        low: Smallest Q-value so far.
        high: Largest Q-value so far.
    """

    action_names: Sequence[str] | None = None
    low: float = field(default=np.inf, init=False)
    high: float = field(default=-np.inf, init=False)

    def draw(
        self,
        frame: np.ndarray,
        q_values: np.ndarray,
        action: int | None,
        *,
        step: int,
        episode_return: float,
    ) -> np.ndarray:
        """Draw the panel of one step; see `with_value_panel`."""
        finite = q_values[np.isfinite(q_values)].tolist()
        self.low = min([self.low, *finite])
        self.high = max([self.high, *finite])
        names = self.action_names or [f"action {k}" for k in range(len(q_values))]
        return with_value_panel(
            frame,
            q_values,
            action,
            names,
            step=step,
            episode_return=episode_return,
            scale=(self.low, self.high),
        )


def with_value_panel(
    frame: np.ndarray,
    q_values: np.ndarray,
    action: int | None,
    action_names: Sequence[str],
    *,
    step: int,
    episode_return: float,
    scale: tuple[float, float],
) -> np.ndarray:
    """Draw a panel of Q-values to the right of a picture.

    One bar per action; the taken one is green if it has the largest value, else orange (random).

    Args:
        frame: RGB uint8 (height, width, 3); enlarged first if lower than `MIN_HEIGHT`.
        q_values: Shape (n_actions,).
        action: The action taken here; None at the end of an episode.
        action_names: One name per action.
        step: Number of the step, shown above.
        episode_return: Return so far, shown above.
        scale: Q-values of an empty and of a full bar.

    Returns:
        RGB uint8 (height, width + panel, 3); the panel's size depends on the height alone.
    """
    from PIL import Image, ImageDraw

    frame = enlarge(frame, MIN_HEIGHT)
    height = frame.shape[0]
    zoom = height / MIN_HEIGHT
    picture = Image.new("RGB", (round(_WIDTH * zoom), height), _BACKGROUND)
    pen = _Pen(ImageDraw.Draw(picture), zoom)
    pen.box(0, 0, 2, MIN_HEIGHT, _TRACK)
    _draw_header(pen, q_values, action, action_names, step, episode_return)
    row = min(_MAX_ROW, (_ROWS_BOTTOM - _ROWS_TOP) / len(q_values))
    for k, (name, value) in enumerate(zip(action_names, q_values, strict=True)):
        colour = _colour_of_taken(q_values, k) if k == action else None
        _draw_row(pen, _ROWS_TOP + k * row, row, name, float(value), scale, colour)
    _draw_footer(pen, scale)
    return np.concatenate([frame, np.asarray(picture)], axis=1)


@dataclass
class _Pen:
    """Draws in the coordinates of a panel 400 high."""

    draw: "ImageDraw.ImageDraw"
    zoom: float

    def text(
        self, x: float, y: float, text: str, size: float, colour: Colour, anchor: str = "lm"
    ) -> None:
        font = _font(size * self.zoom)
        position = (x * self.zoom, y * self.zoom)
        self.draw.text(position, text, font=font, fill=colour, anchor=anchor)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        corners = [round(side * self.zoom) for side in (left, top, right, bottom)]
        # Pillow fills up to and including the last pixel.
        corners[2] = max(corners[0], corners[2] - 1)
        corners[3] = max(corners[1], corners[3] - 1)
        self.draw.rectangle(corners, fill=colour)


@cache
def _font(size: float) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    """Return Pillow's own font; loading it takes longer than drawing a whole panel."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _number(value: float, scale: tuple[float, float]) -> str:
    """Write a Q-value with as many decimals as all others on the scale, four digits in all."""
    largest = max(abs(bound) for bound in scale)
    if not 1e-3 <= largest < 1e5:
        return f"{value:.3g}"
    decimals = max(0, min(3, 3 - math.floor(math.log10(largest))))
    return f"{value:.{decimals}f}"


def _colour_of_taken(q_values: np.ndarray, action: int) -> Colour:
    return _GREEDY if action == q_values.argmax() else _RANDOM


def _draw_header(
    pen: _Pen,
    q_values: np.ndarray,
    action: int | None,
    action_names: Sequence[str],
    step: int,
    episode_return: float,
) -> None:
    right = _WIDTH - _MARGIN
    pen.text(_MARGIN, 20, "STEP", 11, _FAINT)
    pen.text(_MARGIN, 42, f"{step}", 22, _TEXT)
    pen.text(right, 20, "RETURN", 11, _FAINT, "rm")
    pen.text(right, 42, f"{episode_return:.6g}", 22, _TEXT, "rm")
    if action is None:
        pen.text(_MARGIN, 76, "end of episode", 15, _FAINT)
        return
    colour = _colour_of_taken(q_values, action)
    pen.text(_MARGIN, 76, action_names[action], 15, colour)
    pen.text(right, 76, "greedy" if colour == _GREEDY else "random", 15, colour, "rm")


def _draw_row(
    pen: _Pen,
    top: float,
    height: float,
    name: str,
    value: float,
    scale: tuple[float, float],
    taken: Colour | None,
) -> None:
    """Draw name, bar and number; `taken` is the highlight of the taken action.

    Rows too low for letters, of some thirty actions and more, show the bar alone.
    """
    middle = top + height / 2
    size = min(14.0, height - 2)
    left, right = _MARGIN + _NAME_WIDTH, _WIDTH - _MARGIN - _NUMBER_WIDTH
    half = height * 0.32
    pen.box(left, middle - half, right, middle + half, _TRACK)
    low, high = scale
    if np.isfinite(value) and high > low:
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        pen.box(left, middle - half, left + share * (right - left), middle + half, taken or _BAR)
    if size >= _MIN_FONT:
        pen.text(_MARGIN, middle, name[:13], size, taken or _FAINT)
        pen.text(_WIDTH - _MARGIN, middle, _number(value, scale), size, taken or _TEXT, "rm")


def _draw_footer(pen: _Pen, scale: tuple[float, float]) -> None:
    left, right = _MARGIN + _NAME_WIDTH, _WIDTH - _MARGIN - _NUMBER_WIDTH
    low, high = scale
    pen.text(_MARGIN, 366, "scale", 11, _FAINT)
    pen.text(left, 366, _number(low, scale), 11, _FAINT)
    pen.text(right, 366, _number(high, scale), 11, _FAINT, "rm")
    pen.box(_MARGIN, 381, _MARGIN + 10, 391, _GREEDY)
    pen.text(_MARGIN + 16, 386, "greedy", 11, _FAINT)
    pen.box(_MARGIN + 84, 381, _MARGIN + 94, 391, _RANDOM)
    pen.text(_MARGIN + 100, 386, "random", 11, _FAINT)
