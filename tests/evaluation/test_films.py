"""Films: a game, and two games of one seed next to each other."""

from dataclasses import replace

import numpy as np
import pytest
from recorded_episodes import balance, record

from sndqn.errors import ConfigError
from sndqn.evaluation import Trace, trace_frames
from sndqn.evaluation.films import Film, Side, film, film_of_two

CAPTION = 32  # rows above a picture 400 high


@pytest.fixture(scope="module")
def short_trace(cartpole_trace: Trace) -> Trace:
    return record("CartPole", max_steps=20)


def halves(pictures: Film, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    frames = list(pictures.frames)
    assert len({frame.shape for frame in frames}) == 1
    return [(frame[:, :width], frame[:, -width:]) for frame in frames]


def test_a_film_is_as_long_and_fast_as_the_game() -> None:
    trace = record("Breakout", max_steps=20)
    for every_frame, per_step in ((True, 4), (False, 1)):
        made = film(trace, every_frame=every_frame)
        assert made.fps == 15 * per_step
        assert len(list(made.frames)) == made.length == 1 + per_step * trace.length


def test_two_games_stand_next_to_each_other_frame_by_frame(
    cartpole_trace: Trace, short_trace: Trace
) -> None:
    one, other = (Side(name, cartpole_trace) for name in ("CartPole/a", "CartPole/b"))
    frames = halves(film_of_two((one, other)), 600)
    for (left, right), plain in zip(frames, trace_frames(cartpole_trace), strict=False):
        np.testing.assert_array_equal(left[CAPTION:], plain)
        np.testing.assert_array_equal(right[CAPTION:], plain)
        # The names differ, the returns on the right do not.
        assert not np.array_equal(left[:CAPTION, :100], right[:CAPTION, :100])
        np.testing.assert_array_equal(left[:CAPTION, 300:], right[:CAPTION, 300:])


@pytest.mark.parametrize("q_function", [None, balance])
def test_the_game_that_ends_first_stays_dimmed_until_the_other_is_over(
    cartpole_trace: Trace, short_trace: Trace, q_function
) -> None:
    made = film_of_two(
        (Side("long", cartpole_trace, q_function), Side("short", short_trace, q_function))
    )
    last = list(trace_frames(short_trace, q_function))[-1]
    frames = halves(made, last.shape[1])
    assert len(frames) == made.length == 1 + cartpole_trace.length + made.fps
    np.testing.assert_array_equal(frames[short_trace.length][1][CAPTION:], last)
    for _, right in frames[short_trace.length + 1 :]:
        np.testing.assert_array_equal(right, frames[-1][1])
        assert 0.3 * last.mean() < right[CAPTION:].mean() < 0.5 * last.mean()
    # The caption changes as well: it says that the return is final.
    assert not np.array_equal(
        frames[short_trace.length][1][:CAPTION], frames[short_trace.length + 1][1][:CAPTION]
    )
    live = [left for left, _ in frames[: 1 + cartpole_trace.length]]
    for left, plain in zip(live, trace_frames(cartpole_trace, q_function), strict=True):
        np.testing.assert_array_equal(left[CAPTION:], plain)
    assert all(left.mean() < 0.6 * live[-1].mean() for left, _ in frames[len(live) :])


def test_games_of_atari_stay_in_step_with_every_frame() -> None:
    trace = record("Breakout", max_steps=20)
    made = film_of_two((Side("a", trace), Side("b" * 200, trace)))
    caption = round(CAPTION * 1.05)
    plain = list(trace_frames(trace, every_frame=True))
    frames = list(made.frames)
    assert len(frames) == len(plain) + made.fps
    for frame, expected in zip(frames, plain, strict=False):
        np.testing.assert_array_equal(frame[caption:, :320], expected)
        np.testing.assert_array_equal(frame[caption:, -320:], expected)


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"settings": {"game": "pong"}}, "found game breakout and pong"),
        ({"settings": {"sticky_actions": 0.5}}, "found sticky_actions 0.25 and 0.5"),
        ({"seed": 4}, "of one seed, found 3 and 4"),
    ],
)
def test_games_that_do_not_begin_alike_are_refused(
    breakout_trace: Trace, changed: dict, found: str
) -> None:
    changed = dict(changed)
    if "settings" in changed:
        changed["settings"] = {**breakout_trace.settings, **changed["settings"]}
    other = replace(breakout_trace, **changed)
    with pytest.raises(ConfigError, match=found):
        film_of_two((Side("a", breakout_trace), Side("b", other)))


def test_how_a_game_is_shown_to_an_agent_parts_no_two_games(breakout_trace: Trace) -> None:
    settings = {**breakout_trace.settings, "life_loss": False, "frame_stack": 1}
    other = replace(breakout_trace, settings=settings)
    assert film_of_two((Side("a", breakout_trace), Side("b", other))).fps == 60
