"""Two one-sided tests against scipy's Welch test, and their verdicts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sndqn.errors import ScoresError
from sndqn.study.equivalence import equivalence_over_games, equivalence_test
from sndqn.study.statistics import mean

SEEDS = st.integers(2, 12)


@given(SEEDS, SEEDS, st.integers(0, 10_000), st.floats(0.01, 0.5))
def test_the_two_tests_are_welchs_against_both_ends_of_the_margin(
    n: int, m: int, seed: int, margin: float
) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(10, 1, n), rng.normal(10, 2, m)
    found = equivalence_test(x, y, margin)
    above = stats.ttest_ind(x, (1 - margin) * y, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind(x, (1 + margin) * y, equal_var=False, alternative="less").pvalue
    assert found.p_not_below == pytest.approx(above, rel=1e-9)
    assert found.p_not_above == pytest.approx(below, rel=1e-9)
    assert found.p == max(found.p_not_below or 0, found.p_not_above or 0)
    assert found.ratio == pytest.approx(x.mean() / y.mean())


def test_arms_that_really_differ_by_the_margin_pass_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(0)
    passed = [
        (equivalence_test(rng.normal(11, 0.5, 10), rng.normal(10, 0.5, 10)).p or 0) <= 0.05
        for _ in range(4000)
    ]
    assert np.mean(passed) == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / 4000) ** 0.5)


def test_noisy_arms_of_the_same_mean_are_not_shown_to_be_equivalent() -> None:
    scores = [2.0, 18.0, 7.0, 13.0]
    found = equivalence_test(scores, scores)
    assert found.ratio == 1
    assert found.p is not None
    assert found.p > 0.3


def test_arms_without_any_spread_are_judged_by_their_means() -> None:
    assert equivalence_test([10.5, 10.5], [10.0, 10.0]).p == 0
    assert equivalence_test([12.0, 12.0], [10.0, 10.0]).p == 1


def test_one_seed_allows_no_test_and_says_so() -> None:
    found = equivalence_test([10.0], [10.0, 11.0])
    assert found.p is None
    assert found.note == "no test: one seed"


def test_a_margin_in_percent_of_nothing_is_refused() -> None:
    with pytest.raises(ScoresError, match="normalise"):
        equivalence_test([1.0, 2.0], [-20.0, -21.0])


def arm(level: float, spread: float) -> dict[str, list[float]]:
    return {
        game: [level - spread, level, level + spread, level] for game in ("Asterix", "Breakout")
    }


@pytest.mark.parametrize(
    ("level", "spread", "verdict"),
    [
        (1.02, 0.01, "equivalent"),
        (1.3, 0.01, "above"),
        (0.7, 0.01, "below"),
        (1.1, 0.05, "open"),
        (1.0, 0.5, "open"),
    ],
)
def test_over_games_the_interval_of_the_ratio_decides(
    level: float, spread: float, verdict: str
) -> None:
    found, quotient = equivalence_over_games(arm(level, spread), arm(1.0, spread), aggregate=mean)
    assert found == verdict
    assert quotient.value == pytest.approx(level)


def test_one_seed_leaves_equivalence_open() -> None:
    found, quotient = equivalence_over_games({"Breakout": [1.0]}, {"Breakout": [1.0, 1.1]})
    assert found == "open"
    assert quotient.note == "no interval: one seed of Breakout"
