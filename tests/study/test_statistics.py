"""Aggregates and comparisons against closed forms and slow, plain references."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sndqn.errors import ScoresError
from sndqn.study.bootstrap import estimate, samples_of
from sndqn.study.statistics import (
    AGGREGATES,
    difference,
    interaction,
    iqm,
    mean,
    median,
    optimality_gap,
    probability_of_improvement,
    profile,
    ratio,
)

SCORES = st.floats(-100, 100).map(lambda x: round(x, 3))
LEVELS = st.lists(st.integers(0, 5), min_size=1, max_size=8)
GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest")


@st.composite
def arms(draw: st.DrawFn, seeds: int | None = None) -> dict[str, list[float]]:
    """Games with numbers of seeds of their own, or all with the same."""
    games = GAMES[: draw(st.integers(1, len(GAMES)))]
    sizes = [seeds or draw(st.integers(1, 7)) for _ in games]
    return {
        game: draw(st.lists(SCORES, min_size=n, max_size=n))
        for game, n in zip(games, sizes, strict=True)
    }


@given(st.integers(1, 200), st.floats(-5, 5), st.floats(0.01, 10))
def test_iqm_of_a_ramp_is_its_middle(count: int, start: float, step: float) -> None:
    ramp = start + step * np.arange(count)
    assert iqm({"Breakout": ramp}) == pytest.approx(ramp.mean(), abs=1e-9)


@given(st.integers(1, 12).flatmap(lambda n: arms(seeds=n)))
def test_iqm_of_equally_many_seeds_is_the_trimmed_mean_of_all_runs(
    arm: dict[str, list[float]],
) -> None:
    runs = np.concatenate(list(arm.values()))
    assert iqm(samples_of(arm)) == pytest.approx(stats.trim_mean(runs, 0.25), abs=1e-10)


@given(arms())
def test_a_game_counts_the_same_however_many_seeds_it_has(arm: dict[str, list[float]]) -> None:
    # Every seed three times over is the same sample; of one game alone, the same weights.
    tripled = {g: values * (3 if i == 0 else 1) for i, (g, values) in enumerate(arm.items())}
    for aggregate in (mean, median, optimality_gap):
        assert aggregate(samples_of(tripled)) == pytest.approx(aggregate(samples_of(arm)), abs=1e-9)


def test_iqm_weighs_runs_by_their_game() -> None:
    # One seed of a game is half of everything, four of the other game the other half.
    arm = samples_of({"Asterix": [10.0], "Breakout": [0.0, 0.0, 0.0, 0.0]})
    assert iqm(arm) == pytest.approx(5)


def test_an_outlier_moves_the_mean_and_not_the_iqm() -> None:
    usual = {"Breakout": np.arange(8.0)}
    broken = {"Breakout": np.append(np.arange(7.0), 1e6)}
    assert iqm(usual) == iqm(broken) == 3.5
    assert mean(broken) > 1e5


@given(arms(), st.floats(0.1, 10), st.floats(-50, 50))
def test_mean_median_and_iqm_move_with_their_unit(
    arm: dict[str, list[float]], scale: float, shift: float
) -> None:
    moved = {game: scale * np.array(values) + shift for game, values in arm.items()}
    for aggregate in (mean, median, iqm):
        expected = scale * aggregate(samples_of(arm)) + shift
        assert aggregate(samples_of(moved)) == pytest.approx(expected, abs=1e-7)


@given(arms(), st.randoms(use_true_random=False))
def test_the_order_of_games_and_seeds_does_not_matter(arm: dict[str, list[float]], random) -> None:
    items = [(game, random.sample(values, len(values))) for game, values in arm.items()]
    random.shuffle(items)
    for aggregate in AGGREGATES.values():
        found = aggregate(samples_of(dict(items)))
        assert found == pytest.approx(aggregate(samples_of(arm)), abs=1e-10)


@given(arms())
def test_aggregates_lie_between_the_lowest_and_the_highest_run(arm: dict[str, list[float]]) -> None:
    runs = np.concatenate(list(arm.values()))
    for aggregate in (mean, median, iqm):
        assert runs.min() - 1e-9 <= aggregate(samples_of(arm)) <= runs.max() + 1e-9


def test_the_median_is_of_the_games_means() -> None:
    arm = samples_of({"Asterix": [0.0, 0.0, 9.0], "Breakout": [1.0], "Freeway": [100.0, 300.0]})
    assert median(arm) == 3.0


def test_the_optimality_gap_counts_what_is_missing_to_one_and_nothing_beyond() -> None:
    arm = samples_of({"Asterix": [0.5, 7.0], "Breakout": [-1.0, 1.0]})
    assert optimality_gap(arm) == pytest.approx(((0.5 + 0) / 2 + (2 + 0) / 2) / 2)


@pytest.mark.parametrize("name", AGGREGATES)
def test_an_aggregate_of_many_replicates_is_that_of_each(name: str) -> None:
    rng = np.random.default_rng(0)
    replicates = {"Asterix": rng.normal(size=(20, 3)), "Breakout": rng.normal(size=(20, 5))}
    together = AGGREGATES[name](replicates)
    for i in range(20):
        alone = AGGREGATES[name]({game: array[i] for game, array in replicates.items()})
        assert together[i] == pytest.approx(alone, abs=1e-12)


def beaten(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    pairs = [(a > b) + (a == b) / 2 for a in np.asarray(x) for b in np.asarray(y)]
    return float(np.mean(pairs))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
)
def test_probability_of_improvement_is_u_over_the_pairs_ties_counting_half(
    x: list[int], y: list[int]
) -> None:
    found = probability_of_improvement(samples_of({"Breakout": x}), samples_of({"Breakout": y}))
    assert found == pytest.approx(beaten(x, y))
    if len(set(x + y)) > 1:
        u = stats.mannwhitneyu(x, y, method="asymptotic").statistic
        assert found == pytest.approx(u / (len(x) * len(y)))


@given(arms(seeds=4))
def test_improvement_and_its_reverse_sum_to_one(arm: dict[str, list[float]]) -> None:
    x = samples_of(arm)
    y = {game: np.sort(array)[:3] + 1 for game, array in x.items()}
    there, back = probability_of_improvement(x, y), probability_of_improvement(y, x)
    assert there + back == pytest.approx(1)
    assert probability_of_improvement(x, x) == pytest.approx(0.5)


NONE = {"Asterix": [1.0, 1.2, 0.8, 1.1], "Breakout": [2.0, 2.1, 1.9, 2.2]}
SN = {"Asterix": [1.5, 1.7, 1.3, 1.6], "Breakout": [2.5, 2.6, 2.4, 2.7]}


def test_a_difference_has_its_closed_form_and_an_interval_around_it() -> None:
    found = difference(SN, NONE, mean, method="percentile")
    assert found.value == pytest.approx(0.5)
    # Of a mean of 2 games of 4 seeds, with the bootstrap's variance: sum of squares / n^2.
    variance = sum(np.var(v) / 4 for arm in (SN, NONE) for v in arm.values()) / 4
    assert found.low == pytest.approx(0.5 - 1.96 * variance**0.5, abs=0.01)
    assert found.high == pytest.approx(0.5 + 1.96 * variance**0.5, abs=0.01)


def test_a_ratio_is_the_quotient_of_the_aggregates() -> None:
    found = ratio(SN, NONE, mean)
    assert found.value == pytest.approx(mean(samples_of(SN)) / mean(samples_of(NONE)))
    assert found.low is not None
    assert found.high is not None
    assert 1.2 < found.low < found.value < found.high < 1.5


def test_a_ratio_to_nothing_is_refused_and_to_perhaps_nothing_has_no_interval() -> None:
    with pytest.raises(ScoresError, match="normalise the scores"):
        ratio(SN, {game: np.negative(values) for game, values in NONE.items()})
    unsure = {"Asterix": [1.0, -1.0, 0.4], "Breakout": [0.5, -0.6, 0.9]}
    found = ratio(SN, unsure, mean)
    assert found.low is None
    assert "no interval: undefined in" in found.note


def test_an_interaction_is_the_difference_of_the_differences() -> None:
    hot = {game: np.array(values) + 2 for game, values in SN.items()}
    found = interaction(hot, NONE, SN, NONE)
    assert found.value == pytest.approx(2.0)
    assert found.low is not None
    assert found.low > 1.5
    nothing = interaction(SN, NONE, SN, NONE)
    assert nothing.value == pytest.approx(0)
    assert nothing.low is not None
    assert nothing.high is not None
    assert nothing.low < 0 < nothing.high


def test_a_profile_is_the_share_of_runs_above_each_threshold_and_falls() -> None:
    found = profile(NONE, [0.0, 1.0, 1.95, 3.0])
    assert found.value == pytest.approx([1.0, (2 / 4 + 1) / 2, (0 + 3 / 4) / 2, 0.0])
    assert found.low is not None
    assert found.high is not None
    assert np.all(found.low <= found.value)
    assert np.all(found.value <= found.high)
    assert np.all(np.diff(found.value) <= 0)


def test_the_interval_narrows_as_the_root_of_the_number_of_seeds() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for seeds in (25, 100):
        arm = {game: rng.normal(size=seeds) for game in GAMES}
        found = estimate(mean, arm, replicates=5000)
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.15)
