"""Tests of one game against enumeration, scipy and hand-made numbers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sndqn.errors import ScoresError
from sndqn.study.significance import holm, permutation_test, permutation_tests

SCORES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=5)


def by_hand(x: list[float], y: list[float]) -> float:
    """The share of all relabellings that differ at least as much, slowly and in whole numbers."""
    pooled, n, m = x + y, len(x), len(y)
    observed = abs(m * sum(x) - n * sum(y))
    count = total = 0
    for chosen in itertools.combinations(range(n + m), n):
        first = sum(pooled[i] for i in chosen)
        count += abs(m * first - n * (sum(pooled) - first)) >= observed
        total += 1
    return count / total


@given(SCORES, SCORES)
def test_p_of_few_seeds_is_the_share_of_all_relabellings(x: list[float], y: list[float]) -> None:
    found = permutation_test(x, y)
    assert found.exact
    assert found.p == pytest.approx(by_hand(x, y), abs=1e-12)
    assert found.p >= found.least_p - 1e-12
    assert found.difference == pytest.approx(np.mean(x) - np.mean(y))


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_p_of_equally_many_seeds_is_scipys(seed: int) -> None:
    x, y = np.random.default_rng(seed).normal(size=(2, 5))

    def gap(a, b, axis):
        return np.mean(a, axis=axis) - np.mean(b, axis=axis)

    theirs = stats.permutation_test((x, y), gap, vectorized=True, n_resamples=np.inf)
    assert permutation_test(x, y).p == pytest.approx(theirs.pvalue, abs=1e-12)


def test_three_seeds_against_three_cannot_be_significant() -> None:
    found = permutation_test([10.0, 11.0, 12.0], [0.0, 1.0, 2.0])
    assert found.p == found.least_p == pytest.approx(0.1)


def test_one_seed_against_one_says_nothing() -> None:
    assert permutation_test([10.0], [0.0]).p == 1


def test_ten_seeds_against_ten_are_still_exact() -> None:
    found = permutation_test(np.arange(10.0) + 100, np.arange(10.0))
    assert found.exact
    assert found.p == pytest.approx(2 / 184_756)


def test_drawn_relabellings_come_near_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.random.default_rng(5).normal(size=(2, 8)) + np.array([[0.8], [0.0]])
    exact = permutation_test(x, y)
    monkeypatch.setattr("sndqn.study.significance._EXACT", 100)
    drawn = permutation_test(x, y)
    assert exact.exact
    assert not drawn.exact
    assert drawn.p == pytest.approx(exact.p, abs=4 * (exact.p / 100_000) ** 0.5)
    assert drawn == permutation_test(x, y)
    assert permutation_test(np.arange(8.0) + 100, np.arange(8.0), seed=1).p > 0


def test_scores_far_from_zero_keep_their_ties() -> None:
    # 0.1 added up in another order differs in the last digit.
    x, y = [1e6 + 0.1, 1e6 + 0.2, 1e6 + 0.3], [1e6 + 0.1, 1e6 + 0.2, 1e6 + 0.3]
    assert permutation_test(x, y).p == 1


def test_equal_arms_are_called_different_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(0)
    found = [permutation_test(*rng.exponential(size=(2, 6))).p <= 0.05 for _ in range(2000)]
    # 46 of 924 relabellings are the most that fit under 0.05.
    assert np.mean(found) == pytest.approx(46 / 924, abs=4 * (0.05 * 0.95 / 2000) ** 0.5)


def test_each_game_is_tested_on_its_own() -> None:
    first = {"Asterix": [1.0, 2.0, 3.0], "Breakout": [5.0, 6.0]}
    second = {"Asterix": [1.0, 2.0, 3.0], "Breakout": [0.0, 1.0, 2.0]}
    found = permutation_tests(first, second)
    assert {game: test.seeds for game, test in found.items()} == {
        "Asterix": (3, 3),
        "Breakout": (2, 3),
    }
    assert found["Asterix"].p == 1
    assert found["Breakout"].p == pytest.approx(0.1)
    with pytest.raises(ScoresError, match="has no scores of Breakout"):
        permutation_tests(first, {"Asterix": [1.0]})


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({"a": 0.9, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@given(st.dictionaries(st.integers(), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_plain_p_and_bonferronis(p: dict[int, float]) -> None:
    found = holm(p)
    assert list(found) == list(p)
    for key, value in p.items():
        assert value <= found[key] <= min(1, len(p) * value)
    for a, b in itertools.combinations(p, 2):
        if p[a] <= p[b]:
            assert found[a] <= found[b]
