"""Pictures made legible: enlarged pixels, and a panel that shows what the agent thinks."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from sndqn.errors import ConfigError
from sndqn.evaluation.pen import (
    BACKGROUND,
    BAR,
    FAINT,
    GREEDY,
    RANDOM,
    TEXT,
    TRACK,
    Colour,
    Pen,
)

MIN_HEIGHT = 400
"""Doubles Atari (210 rows), enlarges MinAtar 40 times, leaves classic control as it is."""

# All lengths are pixels of a panel 400 high; higher pictures scale them.
_WIDTH = 320
_MARGIN = 16
_ROWS_TOP = 100
_ROWS_BOTTOM = 352
_MAX_ROW = 32
_MIN_FONT = 6
_NAME_WIDTH = 112
_NUMBER_WIDTH = 68
_NAME_LETTERS = 13
# The scale follows a smaller spread by this factor a step: half of it in 34 steps.
_NARROWING = 0.98


def enlarge(frame: np.ndarray, min_height: int) -> np.ndarray:
    """Repeats pixels a whole number of times until a frame is at least `min_height` high.

    Args:
        frame: Shape (height, width, 3).
        min_height: Height in pixels.

    Returns:
        Shape (height·k, width·k, 3) with the smallest k that is enough.
    """
    height, width = frame.shape[:2]
    factor = _factor(height, min_height)
    large = np.empty((height * factor, width * factor, 3), frame.dtype)
    _enlarge_into(large, frame, factor)
    return large


def _factor(height: int, min_height: int) -> int:
    return max(1, -(-min_height // height))


def _enlarge_into(target: np.ndarray, frame: np.ndarray, factor: int) -> None:
    """Writes a frame into a picture `factor` times as large."""
    if factor == 1:
        target[:] = frame
        return
    wide = np.empty((frame.shape[0], target.shape[1], 3), frame.dtype)
    for column in range(factor):
        for channel in range(3):  # NumPy copies single bytes faster than threes
            wide[:, column::factor, channel] = frame[:, :, channel]
    for row in range(factor):
        target[row::factor] = wide


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


class ValuePanel:
    """Draws panels of Q-values beside the pictures of one episode.

    One bar per action; the taken one is green if it has the largest value, else orange (random).
    A full bar is the largest value of the step, and an empty one is as far below it as the scale
    is long: the spread of the values, widened at once and narrowed slowly. So actions can be told
    apart where all of them are worth about the same.

    Args:
        action_names: One name per action; None shows the actions' numbers.

    Attributes:
        scale: Length of the scale.
    """

    def __init__(self, action_names: Sequence[str] | None = None) -> None:
        self.action_names = None if action_names is None else tuple(action_names)
        self.scale = 0.0
        self._panel: np.ndarray | None = None

    def draw(
        self,
        frame: np.ndarray,
        q_values: np.ndarray,
        action: int | None,
        *,
        step: int,
        episode_return: float,
    ) -> np.ndarray:
        """Draws the panel of one step to the right of a picture.

        Args:
            frame: RGB uint8 (height, width, 3); enlarged first if lower than `MIN_HEIGHT`.
            q_values: Shape (n_actions,).
            action: The action taken here; None at the end of an episode.
            step: Number of the step, shown above.
            episode_return: Return so far, shown above.

        Returns:
            RGB uint8 (height, width + panel, 3); the panel's size depends on the height alone.
        """
        finite = q_values[np.isfinite(q_values)]
        spread = float(finite.max() - finite.min()) if finite.size else 0.0
        self.scale = max(spread, _NARROWING * self.scale)
        names = self.action_names or tuple(f"action {k}" for k in range(len(q_values)))
        self._panel = _empty_panel(_large_height(frame), names).copy()
        pen = Pen(self._panel, len(self._panel) / MIN_HEIGHT)
        _draw_header(pen, q_values, action, names, step, episode_return)
        _draw_rows(pen, q_values, action, names, self.scale)
        largest = float(finite.max()) if finite.size else math.nan
        pen.text(_LEFT, 366, _number(largest - self.scale, largest, self.scale), 11, FAINT)
        pen.text(_RIGHT, 366, _number(largest, largest, self.scale), 11, FAINT, "right")
        return self.beside(frame)

    def beside(self, frame: np.ndarray) -> np.ndarray:
        """Returns another picture with the panel drawn last, as between two steps."""
        assert self._panel is not None
        factor = self._panel.shape[0] // frame.shape[0]
        width = frame.shape[1] * factor
        picture = np.empty((len(self._panel), width + self._panel.shape[1], 3), np.uint8)
        _enlarge_into(picture[:, :width], frame, factor)
        picture[:, width:] = self._panel
        return picture


def _large_height(frame: np.ndarray) -> int:
    return int(frame.shape[0]) * _factor(frame.shape[0], MIN_HEIGHT)


_LEFT, _RIGHT = _MARGIN + _NAME_WIDTH, _WIDTH - _MARGIN - _NUMBER_WIDTH


@cache
def _empty_panel(height: int, names: tuple[str, ...]) -> np.ndarray:
    """Returns what all panels of an episode have in common."""
    panel = np.empty((height, round(_WIDTH * height / MIN_HEIGHT), 3), np.uint8)
    panel[:] = BACKGROUND
    pen = Pen(panel, height / MIN_HEIGHT)
    pen.box(0, 0, 2, MIN_HEIGHT, TRACK)
    pen.text(_MARGIN, 20, "STEP", 11, FAINT)
    pen.text(_WIDTH - _MARGIN, 20, "RETURN", 11, FAINT, "right")
    for top, row_height, name in _rows(names):
        middle, half = top + row_height / 2, 0.32 * row_height
        pen.box(_LEFT, middle - half, _RIGHT, middle + half, TRACK)
        if _letter_size(row_height) >= _MIN_FONT:
            pen.text(_MARGIN, middle, name[:_NAME_LETTERS], _letter_size(row_height), FAINT)
    pen.text(_MARGIN, 366, "Q-values", 11, FAINT)
    pen.box(_MARGIN, 381, _MARGIN + 10, 391, GREEDY)
    pen.text(_MARGIN + 16, 386, "greedy", 11, FAINT)
    pen.box(_MARGIN + 84, 381, _MARGIN + 94, 391, RANDOM)
    pen.text(_MARGIN + 100, 386, "random", 11, FAINT)
    return panel


def _rows(names: Sequence[str]) -> list[tuple[float, float, str]]:
    """Returns top, height and name of each action's row."""
    height = min(_MAX_ROW, (_ROWS_BOTTOM - _ROWS_TOP) / len(names))
    return [(_ROWS_TOP + number * height, height, name) for number, name in enumerate(names)]


def _letter_size(row_height: float) -> float:
    """Returns the size of letters; rows of some thirty actions are too low for any."""
    return min(14.0, row_height - 2)


def _number(value: float, largest: float, scale: float) -> str:
    """Writes a Q-value with as many decimals as tell apart what the scale does, or four digits."""
    if not math.isfinite(value):
        return f"{value:g}"
    size = max(abs(largest), scale, 1e-30)
    if not 1e-3 <= size < 1e5:
        return f"{value:.3g}"
    digits_before = max(math.floor(math.log10(size)) + 1, 1)
    decimals = 4 - digits_before
    if scale > 0:
        decimals = max(decimals, 1 - math.floor(math.log10(scale)))
    return f"{value:.{max(0, min(decimals, 7 - digits_before, 5))}f}"


def _colour_of_taken(q_values: np.ndarray, action: int) -> Colour:
    return GREEDY if action == q_values.argmax() else RANDOM


def _draw_header(
    pen: Pen,
    q_values: np.ndarray,
    action: int | None,
    names: Sequence[str],
    step: int,
    episode_return: float,
) -> None:
    right = _WIDTH - _MARGIN
    pen.text(_MARGIN, 42, f"{step}", 22, TEXT)
    pen.text(right, 42, f"{episode_return:.6g}", 22, TEXT, "right")
    if action is None:
        pen.text(_MARGIN, 76, "end of episode", 15, FAINT)
        return
    colour = _colour_of_taken(q_values, action)
    pen.text(_MARGIN, 76, names[action], 15, colour)
    pen.text(right, 76, "greedy" if colour == GREEDY else "random", 15, colour, "right")


def _draw_rows(
    pen: Pen, q_values: np.ndarray, action: int | None, names: Sequence[str], scale: float
) -> None:
    """Draws bars and numbers, and the taken action's name in its colour."""
    values = q_values.tolist()
    largest = max((value for value in values if math.isfinite(value)), default=math.nan)
    for number, (top, height, name) in enumerate(_rows(names)):
        taken = _colour_of_taken(q_values, number) if number == action else None
        middle, half, value = top + height / 2, 0.32 * height, values[number]
        if math.isfinite(value):
            share = 1 - (largest - value) / scale if scale > 0 else 1.0
            right = _LEFT + share * (_RIGHT - _LEFT)
            pen.box(_LEFT, middle - half, right, middle + half, taken or BAR)
        size = _letter_size(height)
        if size >= _MIN_FONT:
            words = _number(value, largest, scale)
            pen.text(_WIDTH - _MARGIN, middle, words, size, taken or TEXT, "right")
            if taken is not None:
                pen.text(_MARGIN, middle, name[:_NAME_LETTERS], size, taken)
