"""Whatever takes long gives a sign of life."""

import io
from collections import namedtuple

import pytest
from rich.console import Console

from sndqn import console as module
from sndqn.console import Bar, EpisodeCount, clock

Over = namedtuple("Over", "length")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the console's clock shows."""
    time = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    return time


def test_a_pipe_gets_a_line_every_ten_seconds_with_episodes_speed_and_time_left(
    now: list[float],
) -> None:
    console = Console(file=io.StringIO())
    with Bar(console, "evaluating: ") as bar:
        count = EpisodeCount(bar, episodes=4)
        for second in range(1, 26):
            now[0] += 1
            for _ in range(100):
                count.on_step(0, 0)
            if second == 15:
                count.on_episode(0, Over(length=1500))
    assert console.file.getvalue() == (  # type: ignore[attr-defined]
        "evaluating: 0/4 episodes, 901 steps, 90 steps/s\n"
        "evaluating: 1/4 episodes, 1,901 steps, 95 steps/s, 0:43 left\n"
    )


def test_before_an_episode_is_over_the_time_left_is_told_by_the_limit(now: list[float]) -> None:
    console = Console(file=io.StringIO())
    with Bar(console) as bar:
        count = EpisodeCount(bar, episodes=2, limit=1000)
        now[0] += 10
        count.on_step(0, 1)
    assert "at most 5:33:10 left" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_terminal_gets_a_bar_that_goes_when_it_is_done(now: list[float]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Bar(console) as bar:
        now[0] += 1
        things = bar.over("ab", 2, "letters")
        assert next(things) == "a"
        now[0] += 1
        assert next(things) == "b"
        assert bar.progress.tasks[0].fields["words"] == "1/2 letters, 1 letters/s, 0:01 left"
        assert bar.progress.tasks[0].completed == 0.5
    assert console.file.getvalue().endswith("\x1b[2K")  # type: ignore[attr-defined]


def test_below_another_bar_a_terminal_gets_lines(now: list[float]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with Bar(console, in_lines=True) as bar:
        now[0] += 10
        bar.show(lambda: (0.5, "half"))
    assert console.file.getvalue() == "half\n"  # type: ignore[attr-defined]


def test_durations_are_minutes_and_seconds_or_hours() -> None:
    assert [clock(seconds) for seconds in (0, 59.6, 3600, 3725)] == [
        "0:00",
        "1:00",
        "1:00:00",
        "1:02:05",
    ]
