"""Curves are joined where all of them are, and runs that collapse are counted."""

import numpy as np
import pytest
from scipy import stats

from sndqn.errors import ScoresError
from sndqn.study.curves import aligned, collapsed, sample_efficiency
from sndqn.study.statistics import iqm, mean


def test_curves_with_the_same_steps_stay_as_they_are() -> None:
    steps = [100, 200, 300]
    grid, samples = aligned({"Breakout": [(steps, [1, 2, 3]), (steps, [2, 4, 6])]})
    assert grid.tolist() == steps
    assert samples["Breakout"].tolist() == [[1, 2], [2, 4], [3, 6]]


def test_curves_with_other_steps_are_read_between_their_points() -> None:
    straight = (np.arange(0, 1001, 7), 2.0 * np.arange(0, 1001, 7))
    grid, samples = aligned({"Breakout": [straight, ([50, 450, 900], [100, 900, 1800])]})
    assert grid.tolist() == [50, 450, 900]
    assert samples["Breakout"] == pytest.approx(np.stack([2 * grid, 2 * grid], axis=-1))


def test_no_curve_is_continued_beyond_its_ends() -> None:
    grid, _ = aligned(
        {"Breakout": [([0, 10, 20], [0, 1, 2])], "Asterix": [([10, 20, 30, 40], [0, 1, 2, 3])]}
    )
    assert grid.tolist() == [10, 20]
    with pytest.raises(ScoresError, match="steps from 10 to 20"):
        aligned({"Breakout": [([0, 20], [0, 1])], "Asterix": [([10, 30], [0, 1])]}, at=[25])


def test_a_long_curve_is_thinned_evenly_and_keeps_its_ends() -> None:
    steps = np.arange(1, 5001)
    grid, _ = aligned({"Breakout": [(steps, steps)]}, most=101)
    assert grid.size == 101
    assert (grid[0], grid[-1]) == (1, 5000)
    assert np.ptp(np.diff(grid)) <= 1


@pytest.mark.parametrize(
    ("curves", "words"),
    [
        ({}, "at least one"),
        ({"Breakout": []}, "at least one"),
        ({"Breakout": [([], [])]}, "as many values"),
        ({"Breakout": [([1, 2], [1])]}, "as many values"),
        ({"Breakout": [([2, 1], [1, 1])]}, "rising"),
        ({"Breakout": [([1, 2], [1, float("nan")])]}, "not finite"),
        ({"Breakout": [([1, 2], [1, 1]), ([3, 4], [1, 1])]}, "no time step is common"),
    ],
)
def test_curves_that_say_nothing_together_are_refused(curves: dict, words: str) -> None:
    with pytest.raises(ScoresError, match=words):
        aligned(curves)


def test_sample_efficiency_is_the_aggregate_at_each_step() -> None:
    rng = np.random.default_rng(0)
    steps = np.arange(10)
    curves = {
        game: [(steps, steps + rng.normal(size=10)) for _ in range(8)]
        for game in ("Asterix", "Breakout")
    }
    found = sample_efficiency(curves)
    for i in (0, 9):
        at = {game: np.array([values[i] for _, values in runs]) for game, runs in curves.items()}
        assert found.value[i] == pytest.approx(iqm(at))
    assert found.low is not None
    assert found.high is not None
    assert np.all(found.low < found.value)
    assert np.all(found.value < found.high)


def test_a_seed_stays_itself_along_its_curve() -> None:
    # Two parallel lines: every replicate is parallel to them, so the band is equally wide.
    steps = [0, 1, 2]
    found = sample_efficiency({"Breakout": [(steps, [0, 1, 2]), (steps, [10, 11, 12])]}, mean)
    assert found.low is not None
    assert found.high is not None
    assert np.diff(found.low) == pytest.approx([1, 1])
    assert np.diff(found.high) == pytest.approx([1, 1])


def test_collapsed_runs_are_those_below_half_their_own_peak() -> None:
    final = {"Asterix": [1.0, 0.4, 2.0], "Breakout": [0.0]}
    peak = {"Asterix": [1.2, 1.0, 4.0], "Breakout": [1.0]}
    found = collapsed(final, peak)
    assert found.value == 0.5
    exact = stats.binomtest(2, 4).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize(("final", "value"), [(1.0, 0.0), (0.0, 1.0)])
def test_none_or_all_collapsed_is_not_certain(final: float, value: float) -> None:
    found = collapsed({"Breakout": [final] * 10}, {"Breakout": [1.0] * 10})
    assert found.value == value
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(1 - 0.025**0.1)


def test_a_peak_of_another_run_is_refused() -> None:
    with pytest.raises(ScoresError, match="a peak of every run"):
        collapsed({"Breakout": [1.0, 2.0]}, {"Breakout": [1.0]})
