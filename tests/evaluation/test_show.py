"""A show in a window that draws into memory, with keys pressed by its clock."""

from collections.abc import Iterator

import numpy as np
import pytest

from sndqn.errors import ConfigError
from sndqn.evaluation import show_window, trace_frames
from sndqn.evaluation.controls import Controls
from sndqn.evaluation.show import Show
from sndqn.evaluation.watching import Game, Moment
from sndqn.evaluation.window import Window


class Clock:
    """Time that passes while the show sleeps; keys are pressed when theirs has come.

    Args:
        keys: By the second at which each is pressed.
    """

    def __init__(self, keys: dict[float, str]) -> None:
        self.now, self.keys = 0.0, dict(keys)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        import pygame

        self.now += seconds
        for at in [at for at in self.keys if at <= self.now]:
            key = self.keys.pop(at)
            if key == "close":
                pygame.event.post(pygame.Event(pygame.QUIT))
            else:
                code = {"=": pygame.K_EQUALS}.get(key) or pygame.key.key_code(key)
                pygame.event.post(pygame.Event(pygame.KEYDOWN, {"key": code}))


class Seen(Window):
    """A window that remembers when it showed what."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("test", "")
        self.clock = clock
        self.pictures: list[tuple[float, np.ndarray]] = []

    def show(self, picture: np.ndarray) -> None:
        super().show(picture)
        self.pictures.append((self.clock.now, picture))


@pytest.fixture(autouse=True)
def unseen_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


class Played:
    """A game of so many steps, of two pictures each, that counts what is taken of it."""

    def __init__(self, steps: int) -> None:
        self.steps, self.taken, self.step = steps, 0, -1

    def __iter__(self) -> Iterator[Moment]:
        q_values = np.array([0.0, 1.0])
        for number in range(2 * self.steps):
            self.taken, self.step = number + 1, number // 2
            frame = np.full((200, 160, 3), number % 256, np.uint8)
            ended = "terminated" if number == 2 * self.steps - 1 else None
            yield Moment(frame, self.step, 3.0 * self.step, q_values, 1, ended)


def run(
    games: list[Played], keys: dict[float, str], fps: float = 60, **settings: object
) -> tuple[Seen, Controls, Clock]:
    clock = Clock(keys)
    controls = Controls(fps, values=bool(settings.pop("values", False)), **settings)  # type: ignore[arg-type]
    with Seen(clock) as window:
        show = Show(window, controls, action_names=["a", "b"], clock=clock, sleep=clock.sleep)
        show.run(Game(iter(game), "words") for game in games)
    return window, controls, clock


def test_every_picture_is_shown_at_its_time() -> None:
    window, _, _ = run([Played(300)], {})
    times = [at for at, _ in window.pictures[:600]]
    np.testing.assert_allclose(times, np.arange(600) / 60, atol=1e-9)


def test_a_fast_show_passes_pictures_over_and_keeps_its_time() -> None:
    window, _, _ = run([Played(2400)], {}, speed=16.0)
    at = {int(picture[0, 0, 0]): at for at, picture in window.pictures}
    assert len(window.pictures) < 1000
    assert at[4799 % 256] == pytest.approx(4800 / 960, abs=0.1)


def test_a_pause_keeps_the_picture_and_steps_go_on_one_by_one() -> None:
    game = Played(1000)
    window, _, _ = run([game], {1.0: "space", 5.0: ".", 6.0: ".", 7.0: "q"})
    paused = [at for at, _ in window.pictures if at > 1.05]
    assert paused == pytest.approx([5.0, 6.0], abs=0.05)
    assert game.step == 29 + 2  # a second of two pictures a step, counted from 0, and two steps
    assert game.taken == 2 * 31 + 1


def test_the_next_game_begins_at_once_and_a_pause_goes_with_it() -> None:
    first, second, third = Played(1000), Played(1000), Played(1000)
    run([first, second, third], {1.0: "n", 2.0: "space", 2.5: "n", 4.0: "escape"})
    assert first.taken == pytest.approx(60, abs=3)
    assert second.taken == pytest.approx(60, abs=3)
    assert third.taken == 1


def test_the_end_of_a_game_stays_a_while_and_the_next_follows() -> None:
    window, _, clock = run([Played(30), Played(30)], {})
    gaps = np.diff([at for at, _ in window.pictures])
    assert np.count_nonzero(gaps > 1) == 1
    assert clock.now == pytest.approx(2 * (1 + 1.5), abs=0.2)


def test_a_long_reset_does_not_count_as_a_slow_game() -> None:
    clock = Clock({})

    class Slow(Played):
        def __iter__(self) -> Iterator[Moment]:
            clock.now += 5.0
            yield from super().__iter__()

    controls = Controls(60)
    with Seen(clock) as window:
        show = Show(window, controls, clock=clock, sleep=clock.sleep)
        show.run([Game(iter(Slow(20)))])
    assert controls.reached is None
    assert clock.now == pytest.approx(5 + 40 / 60 + 1.5, abs=0.1)


def test_values_help_and_speed_change_the_picture_in_a_pause() -> None:
    keys = {0.5: "space", 1.0: "v", 2.0: "h", 3.0: "h", 4.0: "=", 5.0: "v", 6.0: "q"}
    window, controls, _ = run([Played(1000)], keys)
    shown = [picture for at, picture in window.pictures if at > 0.45]
    paused, values, helped, again, faster, without = shown[-6:]
    assert paused.shape == (400 + 72, 320, 3)
    assert values.shape == (400 + 72, 640, 3)
    np.testing.assert_array_equal(again, values)
    assert (helped != values).any()
    assert (faster != values).any()
    assert (faster[:400] == values[:400]).all()
    assert without.shape == paused.shape
    assert controls.speed == 2


def test_without_values_none_are_shown() -> None:
    window, _, _ = run([Played(5)], {}, values=False)
    assert {picture.shape for _, picture in window.pictures} == {(472, 320, 3)}


def test_an_error_of_a_game_closes_the_window() -> None:
    import pygame

    def failing() -> Iterator[Moment]:
        yield Moment(np.zeros((8, 8, 3), np.uint8), 0)
        raise ConfigError("no more")

    clock = Clock({})
    with pytest.raises(ConfigError, match="no more"), Seen(clock) as window:
        Show(window, Controls(60), clock=clock, sleep=clock.sleep).run([Game(failing())])
    assert not pygame.display.get_init()


def test_frames_of_a_replay_are_shown_too(cartpole_trace) -> None:  # type: ignore[no-untyped-def]
    # CartPole draws with pygame too, and shuts it down when it is closed.
    taken = []

    def frames() -> Iterator[np.ndarray]:
        for frame in trace_frames(cartpole_trace):
            taken.append(frame)
            yield frame

    show_window(frames(), 1000)
    assert len(taken) == cartpole_trace.length + 1


def test_without_a_display_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="Leave --window out: a video file") as told:
        show_window([np.zeros((8, 8, 3), np.uint8)], 10)
    assert "\n" not in str(told.value)
