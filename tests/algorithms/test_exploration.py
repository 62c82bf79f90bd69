"""Schedules of ε by hand, and Stable-Baselines3's where it has one."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from stable_baselines3.common.utils import LinearSchedule

from sndqn.algorithms.exploration import ExplorationSchedule
from sndqn.errors import ConfigError

SHAPES: list[Any] = ["linear", "logarithmic", "constant"]
shares = st.floats(0, 1)


# ε from 1 to 0.01 between 20 % and 60 % of the training: half-way down at 40 %.
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [1.0, 1.0, 1.0, 0.7525, 0.505, 0.2575, 0.01, 0.01, 0.01]),
        ("logarithmic", [1.0, 1.0, 1.0, 10**-0.5, 0.1, 10**-1.5, 0.01, 0.01, 0.01]),
        ("constant", [0.01] * 9),
    ],
)
def test_each_shape_by_hand(shape: Any, expected: list[float]) -> None:
    schedule = ExplorationSchedule(1.0, 0.01, 0.2, 0.6, shape)
    progress = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0]
    assert [schedule(1 - p) for p in progress] == pytest.approx(expected)


@given(shares, shares, st.floats(0.01, 1), shares)
def test_without_a_warm_up_the_line_is_stable_baselines3s(
    initial: float, final: float, end: float, remaining: float
) -> None:
    ours = ExplorationSchedule(initial, final, 0.0, end)
    theirs = LinearSchedule(initial, final, end)
    assert ours(remaining) == pytest.approx(theirs(remaining), abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@given(
    ends=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)),
    span=st.tuples(shares, shares),
    moments=st.tuples(shares, shares),
)
def test_it_never_turns_back_nor_leaves_its_ends(
    shape: Any,
    ends: tuple[float, float],
    span: tuple[float, float],
    moments: tuple[float, float],
) -> None:
    final, initial = sorted(ends)
    schedule = ExplorationSchedule(initial, final, *sorted(span), shape)
    earlier, later = sorted(moments)
    first, then = schedule(1 - earlier), schedule(1 - later)
    assert final - 1e-12 <= then <= first + 1e-12 <= initial + 2e-12


@given(st.floats(0.001, 1), st.floats(0.001, 1), shares, st.floats(0.01, 1))
def test_equal_times_of_a_logarithmic_fall_are_equal_ratios(
    initial: float, final: float, warmup: float, length: float
) -> None:
    assume(warmup + length <= 1)
    schedule = ExplorationSchedule(initial, final, warmup, warmup + length, "logarithmic")
    points = [schedule(1 - (warmup + part * length)) for part in (0.2, 0.4, 0.6, 0.8)]
    logs = [math.log(point) for point in points]
    steps = [after - before for before, after in itertools.pairwise(logs)]
    assert steps == pytest.approx([math.log(final / initial) / 5] * 3, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_warm_up_to_the_very_end_is_a_step(shape: Any) -> None:
    schedule = ExplorationSchedule(1.0, 0.1, 0.5, 0.5, shape)
    assert schedule(0.5) == 0.1
    assert schedule(0.51) == (0.1 if shape == "constant" else 1.0)


def test_a_constant_asks_nothing_of_what_it_does_not_use() -> None:
    assert ExplorationSchedule(1.0, 0.0, 0.9, 0.1, "constant")(1.0) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 0.1, 0.0, 0.5), r"initial ε in \[0, 1\], found 1.5"),
        ((math.nan, 0.1, 0.0, 0.5), r"initial ε in \[0, 1\], found nan"),
        ((1.0, -0.1, 0.0, 0.5), r"final ε in \[0, 1\], found -0.1"),
        ((1.0, 0.1, 0.6, 0.5), "a warm-up between 0 and the fall's end at 0.5 .* found 0.6"),
        ((1.0, 0.1, -0.1, 0.5), "a warm-up between 0 and .* found -0.1"),
        ((1.0, 0.0, 0.0, 0.5, "logarithmic"), "ε above 0, found 1.0 to 0.0"),
        ((0.0, 0.1, 0.0, 0.5, "logarithmic"), "ε above 0, found 0.0 to 0.1"),
        ((1.0, 0.1, 0.0, 0.5, "cosine"), "linear, logarithmic or constant, found 'cosine'"),
    ],
)
def test_what_is_no_schedule_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExplorationSchedule(*arguments)
