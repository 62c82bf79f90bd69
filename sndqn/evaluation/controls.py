"""What keys do to a show, and when its next picture is due; knows neither window nor clock."""

from collections.abc import Callable

SLOWEST, FASTEST = 1 / 16, 64.0

KEYS_IN_WORDS = (
    ("space", "pause, go on"),
    (". or right", "one step"),
    ("+  -", "faster, slower"),
    ("n", "next game"),
    ("v", "values on, off"),
    ("h", "this list on, off"),
    ("q or Esc", "quit"),
)
# What a slow machine shows late is not made up for: it would run when nobody expects it.
_LONGEST_LAG = 0.1
_SECONDS_OF_MEASURING = 1.0
_ON_TIME = 0.9


class Controls:
    """The state of a show: keys change it, and time makes pictures due.

    All times are seconds of one clock, any one that never goes back.

    Args:
        fps: Pictures per second at normal speed.
        speed: Factor on that.
        values: Whether the panel of values is shown; None where there is none to show.

    Attributes:
        has_values: Whether there are values to show.
        speed: As given, or as keys changed it.
        paused: Whether pictures wait for a key.
        values: Whether the panel of values is shown.
        help: Whether the list of keys is shown.
        quits: Whether the show is to end.
        reached: The speed in the last second, where it was clearly below `speed`.
    """

    def __init__(self, fps: float, *, speed: float = 1.0, values: bool | None = None) -> None:
        self.fps, self.speed = fps, speed
        self.values, self.has_values = bool(values), values is not None
        self.paused = self.help = self.quits = False
        self.reached: float | None = None
        self._steps = 0
        self._skips = False
        self._due_at: float | None = None
        self._counted, self._counted_from = 0, 0.0

    def press(self, key: str) -> None:
        """Does what a key is for; other keys do nothing.

        Args:
            key: What it types, or its name: "+", "space", "escape"; "close" is the window's button.
        """
        action = _ACTIONS.get(key)
        if action is not None:
            action(self)

    def begin(self) -> None:
        """Begins with a game: its first picture is due at once."""
        self._due_at = self.reached = None

    def takes_picture(self, now: float) -> bool:
        """Says whether the next picture is due, and then counts it as shown."""
        if self.paused:
            return False
        if self._due_at is None:
            self._due_at = self._counted_from = now
            self._counted = 0
        if now < self._due_at:
            return False
        self._due_at = max(self._due_at + 1 / (self.fps * self.speed), now - _LONGEST_LAG)
        self._measure(now)
        return True

    def takes_step(self) -> bool:
        """Says whether a step was asked for, and then counts it as made."""
        if self._steps == 0:
            return False
        self._steps -= 1
        return True

    def takes_next_game(self) -> bool:
        """Says whether the next game was asked for, and then counts it as begun."""
        skips, self._skips = self._skips, False
        return skips

    def seconds_left(self, now: float, at_most: float) -> float:
        """Returns how long nothing will be due, or `at_most`."""
        if self.paused or self._due_at is None:
            return at_most
        return min(max(self._due_at - now, 0.0), at_most)

    def _measure(self, now: float) -> None:
        self._counted += 1
        seconds = now - self._counted_from
        if seconds >= _SECONDS_OF_MEASURING:
            reached = (self._counted - 1) / seconds / self.fps
            self.reached = reached if reached < _ON_TIME * self.speed else None
            self._counted, self._counted_from = 1, now

    def _pause(self) -> None:
        self.paused = not self.paused
        self.begin()

    def _step(self) -> None:
        self.paused = True
        self._steps += 1

    def _faster(self) -> None:
        self._change_speed(2.0)

    def _slower(self) -> None:
        self._change_speed(0.5)

    def _change_speed(self, factor: float) -> None:
        if SLOWEST <= self.speed * factor <= FASTEST:
            self.speed *= factor
            self.begin()

    def _next_game(self) -> None:
        self._skips = True

    def _values(self) -> None:
        self.values = self.has_values and not self.values

    def _help(self) -> None:
        self.help = not self.help

    def _quit(self) -> None:
        self.quits = True


_ACTIONS: dict[str, Callable[[Controls], None]] = {
    "space": Controls._pause,
    ".": Controls._step,
    "right": Controls._step,
    "+": Controls._faster,
    "=": Controls._faster,  # the same key without shift, on many keyboards
    "[+]": Controls._faster,  # of the number pad
    "-": Controls._slower,
    "[-]": Controls._slower,
    "n": Controls._next_game,
    "v": Controls._values,
    "h": Controls._help,
    "?": Controls._help,
    "q": Controls._quit,
    "escape": Controls._quit,
    "close": Controls._quit,
}
