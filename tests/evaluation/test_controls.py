"""Keys and time: what a show does, without a window."""

import pytest

from sndqn.evaluation.controls import FASTEST, KEYS_IN_WORDS, SLOWEST, Controls


def shown(controls: Controls, begin: float, seconds: float, looks_per_second: int = 1000) -> int:
    """How many pictures a window that looks so often would show."""
    looks = range(round(seconds * looks_per_second))
    return sum(controls.takes_picture(begin + look / looks_per_second) for look in looks)


@pytest.mark.parametrize(("fps", "speed"), [(60, 1.0), (50, 1.0), (15, 2.0), (60, 0.25), (30, 8.0)])
def test_five_minutes_show_as_many_pictures_as_it_should(fps: float, speed: float) -> None:
    controls = Controls(fps, speed=speed)
    # A window that looks at odd times, as sleeping makes it.
    now, count = 17.0, 0
    while now < 17.0 + 300:
        while controls.takes_picture(now):
            count += 1
        now += 0.011
    assert count == pytest.approx(300 * fps * speed, abs=2)


def test_what_a_slow_machine_misses_is_not_made_up_for() -> None:
    controls = Controls(60)
    assert controls.takes_picture(0.0)
    late = [controls.takes_picture(10.0) for _ in range(100)]
    assert sum(late) <= 7  # a tenth of a second's
    assert shown(controls, 10.0, 1.0) == pytest.approx(60, abs=2)


def test_a_speed_that_is_not_reached_is_told() -> None:
    controls = Controls(60, speed=4)
    for look in range(100):  # one picture every 20 ms: 50 a second, where 240 are due
        controls.takes_picture(look / 50)
    assert controls.reached == pytest.approx(50 / 60, rel=0.05)
    controls.press("-")
    assert controls.reached is None
    for look in range(2000):
        controls.takes_picture(2 + look / 1000)
    assert controls.reached is None


def test_a_pause_shows_nothing_and_is_not_made_up_for() -> None:
    controls = Controls(60)
    assert controls.takes_picture(0.0)
    controls.press("space")
    assert controls.paused
    assert shown(controls, 0.0, 5.0) == 0
    controls.press("space")
    assert shown(controls, 5.0, 1.0) == pytest.approx(60, abs=1)


@pytest.mark.parametrize("key", [".", "right"])
def test_a_step_pauses_and_is_made_once(key: str) -> None:
    controls = Controls(60)
    assert not controls.takes_step()
    controls.press(key)
    assert controls.paused
    assert controls.takes_step()
    assert not controls.takes_step()


def test_speed_doubles_and_halves_within_limits() -> None:
    controls = Controls(60)
    for key in ("+", "=", "[+]"):
        controls.press(key)
    assert controls.speed == 8
    for _ in range(20):
        controls.press("+")
    assert controls.speed == FASTEST
    for key in ["-", "[-]"] * 10:
        controls.press(key)
    assert controls.speed == SLOWEST


def test_values_are_toggled_only_where_there_are_some() -> None:
    controls = Controls(60, values=True)
    controls.press("v")
    assert not controls.values
    controls.press("v")
    assert controls.values
    without = Controls(60)
    without.press("v")
    assert not without.values


def test_the_next_game_help_and_quitting_are_keys() -> None:
    controls = Controls(60)
    controls.press("x")
    assert (controls.takes_next_game(), controls.help, controls.quits) == (False, False, False)
    controls.press("n")
    assert controls.takes_next_game()
    assert not controls.takes_next_game()
    controls.press("h")
    assert controls.help
    controls.press("h")
    assert not controls.help
    for key in ("q", "escape", "close"):
        closing = Controls(60)
        closing.press(key)
        assert closing.quits


def test_every_key_of_the_list_does_something() -> None:
    for words, _ in KEYS_IN_WORDS:
        for key in words.replace("Esc", "escape").replace(" or ", " ").split():
            controls = Controls(60, values=False)
            before = dict(vars(controls))
            controls.press(key)
            assert vars(controls) != before, key


def test_waiting_ends_when_the_next_picture_is_due() -> None:
    controls = Controls(50)
    assert controls.seconds_left(0.0, at_most=1.0) == 1.0
    controls.takes_picture(0.0)
    assert controls.seconds_left(0.015, at_most=1.0) == pytest.approx(0.005)
    assert controls.seconds_left(0.015, at_most=0.001) == 0.001
    assert controls.seconds_left(9.0, at_most=1.0) == 0.0
