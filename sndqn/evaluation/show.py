"""Shows games in a window, at the speed and in the way that its keys say."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from sndqn.evaluation.controls import Controls
from sndqn.evaluation.picture import Pictures
from sndqn.evaluation.watching import Game, Moment
from sndqn.evaluation.window import Window

# A key is heard after so long at most, and the last picture of a game stays.
_SECONDS_BETWEEN_LOOKS, _SECONDS_OF_END = 1 / 50, 1.5
# No display shows more than these, and where pictures are passed over, no fewer are drawn.
_MOST_PER_SECOND, _FEWEST_PER_SECOND = 120, 30


class Show:
    """Shows games in a window.

    Args:
        window: An open window.
        controls: What its keys change.
        action_names: Names for the panel of values.
        n_games: How many there are, where it is known.
        notice: Returns what to say now in the place of a game's words, or "".
        clock: Gives the time in seconds.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        window: Window,
        controls: Controls,
        *,
        action_names: Sequence[str] = (),
        n_games: int | None = None,
        notice: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.window, self.controls = window, controls
        self.action_names, self.n_games, self.notice = action_names, n_games, notice
        self.clock, self.sleep = clock, sleep
        self._drawn: tuple[object, ...] = ()

    def run(self, games: Iterable[Game]) -> None:
        """Shows one game after the other, until there are no more or a key says so."""
        for number, game in enumerate(games, 1):
            name = f"{number}" if self.n_games is None else f"{number} of {self.n_games}"
            self._show(game, Pictures(self.action_names, name, game.words))
            if self.controls.quits:
                return

    def _show(self, game: Game, pictures: Pictures) -> None:
        controls, reel = self.controls, _Reel(game.moments)
        over_at: float | None = None
        while True:
            for key in self.window.pressed_keys():
                controls.press(key)
            if controls.quits or controls.takes_next_game():
                return
            if over_at is None:
                self._advance(reel)
                over_at = self.clock() if reel.is_over else None
                if reel.is_over and not self.window.is_open:
                    return  # the environment took it along
            elif controls.takes_step() or self._has_ended(over_at):
                return
            if reel.moment is not None:
                self._draw(reel, reel.moment, pictures)
            self._wait(over_at is not None)

    def _advance(self, reel: "_Reel") -> None:
        """Goes on to the moment that is due now; the first one is, even in a pause."""
        controls = self.controls
        if reel.moment is None:
            reel.advance()  # a reset may take long: the game's time begins after it
            controls.begin()
            controls.takes_picture(self.clock())
        elif controls.takes_step():
            step = reel.moment.step
            while reel.advance() and reel.moment.step == step:
                pass
        else:
            until = self.clock() + 1 / _FEWEST_PER_SECOND
            while controls.takes_picture(self.clock()) and reel.advance():
                if self.clock() >= until:
                    return

    def _has_ended(self, over_at: float) -> bool:
        seconds = _SECONDS_OF_END / max(self.controls.speed, 1.0)
        return not self.controls.paused and self.clock() >= over_at + seconds

    def _wait(self, is_over: bool) -> None:
        """Waits for what comes next, but not where it is due already."""
        seconds = self.controls.seconds_left(self.clock(), _SECONDS_BETWEEN_LOOKS)
        if is_over:
            self.sleep(_SECONDS_BETWEEN_LOOKS)
        elif seconds > 0:
            self.sleep(max(seconds, 1 / _MOST_PER_SECOND))

    def _draw(self, reel: "_Reel", moment: Moment, pictures: Pictures) -> None:
        """Draws a moment, unless it is on the screen already."""
        controls, notice = self.controls, self.notice()
        state = (controls.speed, controls.paused, controls.values, controls.help, controls.reached)
        new = (reel, reel.count, *state, notice)
        if new != self._drawn:
            self._drawn = new
            self.window.show(pictures.draw(moment, controls, notice))


class _Reel:
    """A game's moments, one at a time.

    Attributes:
        moment: The newest; None before the first.
        count: How many there were.
        is_over: Whether there are no more.
    """

    def __init__(self, moments: Iterator[Moment]) -> None:
        self._moments = moments
        self.moment: Moment | None = None
        self.count, self.is_over = 0, False

    def advance(self) -> bool:
        """Goes on to the next moment; says whether there was one."""
        moment = next(self._moments, None)
        if moment is None:
            self.is_over = True
            return False
        self.moment = moment
        self.count += 1
        return True


def show_window(frames: Iterable[np.ndarray], fps: float, *, title: str = "sndqn") -> None:
    """Plays frames in a window until they run out or it is closed.

    Args:
        frames: RGB uint8 of shape (height, width, 3); may be lazy.
        fps: Frames per second.
        title: Title of the window.

    Raises:
        ConfigError: There is no display, or a frame is not RGB.
    """
    remedy = "Leave --window out: a video file is written instead"
    moments = (Moment(frame, number) for number, frame in enumerate(frames))
    with Window(title, remedy) as window:
        Show(window, Controls(fps)).run([Game(moments)])
