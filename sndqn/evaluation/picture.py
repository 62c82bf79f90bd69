"""What a window shows: the game, the panel of its values, a strip with score and speed."""

from collections.abc import Sequence

import numpy as np

from sndqn.evaluation.controls import KEYS_IN_WORDS, Controls
from sndqn.evaluation.panel import MIN_HEIGHT, ValuePanel, checked_frame, enlarge
from sndqn.evaluation.pen import BACKGROUND, FAINT, RANDOM, TEXT, TRACK, Pen
from sndqn.evaluation.watching import Moment

# In pixels.
_STRIP, _MARGIN, _MIN_WIDTH = 72, 16, 320
_HELP_WIDTH, _HELP_ROW = 232, 22


class Pictures:
    """Makes the pictures of one game.

    Args:
        action_names: Names for the panel of values.
        game: What to call the game: "3", or "3 of 10".
        words: What to say of it.
    """

    def __init__(self, action_names: Sequence[str], game: str, words: str) -> None:
        self.action_names, self.game, self.words = action_names, game, words
        self._panel: ValuePanel | None = None
        self._panel_step = -1

    def draw(self, moment: Moment, controls: Controls, notice: str) -> np.ndarray:
        """Returns a picture of a moment, RGB uint8 (height, width, 3).

        Args:
            moment: The moment.
            controls: What is shown besides, and what is said of pause and speed.
            notice: Said in the place of all other words, unless it is empty.
        """
        game = self._game(moment, values=controls.values)
        height, width = game.shape[:2]
        picture = np.empty((height + _STRIP, max(width, _MIN_WIDTH), 3), np.uint8)
        picture[:] = BACKGROUND
        left = (picture.shape[1] - width) // 2
        picture[:height, left : left + width] = game
        self._draw_strip(Pen(picture[height:], 1), moment, controls, notice)
        if controls.help:
            _draw_help(picture[:height], has_values=controls.has_values)
        return picture

    def _game(self, moment: Moment, *, values: bool) -> np.ndarray:
        frame = checked_frame(moment.frame)
        if not values or moment.q_values is None:
            self._panel = None
            return enlarge(frame, MIN_HEIGHT)
        if self._panel is not None and self._panel_step == moment.step:
            return self._panel.beside(frame)
        self._panel = self._panel or ValuePanel(self.action_names or None)
        self._panel_step = moment.step
        return self._panel.draw(
            frame,
            moment.q_values,
            moment.action,
            step=moment.step,
            episode_return=moment.episode_return or 0.0,
        )

    def _draw_strip(self, pen: Pen, moment: Moment, controls: Controls, notice: str) -> None:
        width = pen.picture.shape[1]
        cells = [("FRAME", f"{moment.step}")]
        if moment.episode_return is not None:
            score = f"{moment.episode_return:.6g}"
            cells = [("GAME", self.game), ("STEP", f"{moment.step}"), ("RETURN", score)]
        column = min((width - 2 * _MARGIN) / (len(cells) + 1), 120)
        for number, (label, value) in enumerate(cells):
            pen.text(_MARGIN + number * column, 14, label, 11, FAINT)
            pen.text(_MARGIN + number * column, 33, value, 16, TEXT)
        right = width - _MARGIN
        state, colour = ("PAUSED", RANDOM) if controls.paused else ("SPEED", FAINT)
        pen.text(right, 14, state, 11, colour, "right")
        pen.text(right, 33, f"{controls.speed:g}x", 16, TEXT, "right")
        pen.text(_MARGIN, 57, self._line(moment, controls, notice), 11, FAINT)
        pen.text(right, 57, "h: keys", 11, FAINT, "right")
        pen.box(0, 0, width, 1, TRACK)

    def _line(self, moment: Moment, controls: Controls, notice: str) -> str:
        if notice:
            return notice
        if moment.ended_by is not None:
            cut = "" if moment.ended_by == "terminated" else f": {moment.ended_by}"
            return f"game over{cut}"
        if controls.reached is not None:
            return f"as fast as it goes: {controls.reached:.2g}x"
        return self.words


def _draw_help(game: np.ndarray, *, has_values: bool) -> None:
    """Draws the list of keys into the middle of a picture."""
    keys = [(key, meaning) for key, meaning in KEYS_IN_WORDS if key != "v" or has_values]
    height = _HELP_ROW * len(keys) + 2 * _MARGIN
    top, left = (game.shape[0] - height) // 2, (game.shape[1] - _HELP_WIDTH) // 2
    box = game[max(top, 0) : top + height, left : left + _HELP_WIDTH]
    pen = Pen(box, 1)
    pen.box(0, 0, box.shape[1], box.shape[0], FAINT)
    pen.box(1, 1, box.shape[1] - 1, box.shape[0] - 1, BACKGROUND)
    for number, (key, meaning) in enumerate(keys):
        middle = _MARGIN + (number + 0.5) * _HELP_ROW
        pen.text(_MARGIN, middle, key, 13, TEXT)
        pen.text(_MARGIN + 84, middle, meaning, 13, FAINT)
