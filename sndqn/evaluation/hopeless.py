"""Games in which nothing happens any more: what an evaluation may end before its limit."""

from typing import TYPE_CHECKING

import numpy as np

from sndqn.errors import ConfigError
from sndqn.evaluation.play import Step

if TYPE_CHECKING:
    from sndqn.envs import EnvSettings

_FRAMES_OF_A_MINUTE = 3_600
# A counter is a row of digits: of a screen's height and width, at most this share changes.
_COUNTER_HEIGHT, _COUNTER_WIDTH = 1 / 8, 1 / 2


class Stillness:
    """Watches an Atari game for a minute in which nothing but a counter changes.

    The minute begins anew with each reward, and once the pixels that have differed from its first
    frame no longer fit into an eighth of the screen's height and half of its width. What moves only
    within so small a part, such as a paddle that trembles, counts as a counter.

    Args:
        settings: Of the game.

    Raises:
        ConfigError: It is no Atari game.
    """

    def __init__(self, settings: "EnvSettings") -> None:
        from sndqn.envs import AtariSettings

        if not isinstance(settings, AtariSettings):
            raise ConfigError(
                "hopeless games are told by an Atari screen: expected an Atari game, found "
                f"{settings.name}: leave the option out"
            )
        self._steps_of_a_minute = -(-_FRAMES_OF_A_MINUTE // settings.frame_skip)
        self._first: np.ndarray | None = None
        self._changed = np.zeros(0, np.bool_)
        self._steps = 0

    def lasts(self, step: Step) -> bool:
        """Takes the next step, the reset first; says whether the minute is over."""
        screen = step.observation[-1]
        if self._first is None or step.reward != 0 or not self._is_counter(screen):
            self._first, self._changed, self._steps = screen, np.zeros_like(screen, np.bool_), 0
            return False
        self._steps += 1
        return self._steps >= self._steps_of_a_minute

    def _is_counter(self, screen: np.ndarray) -> bool:
        """Adds what differs from the minute's first frame; says whether all of it is small."""
        differs = screen != self._first
        if not differs.any():
            return True
        self._changed |= differs
        height, width = screen.shape
        rows, columns = (np.flatnonzero(self._changed.any(axis=axis)) for axis in (1, 0))
        return bool(
            rows[-1] - rows[0] < height * _COUNTER_HEIGHT
            and columns[-1] - columns[0] < width * _COUNTER_WIDTH
        )
