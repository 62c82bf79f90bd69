"""A test over several games at once."""

import itertools

import numpy as np
import pytest

from sndqn.errors import ScoresError
from sndqn.study.overall import permutation_test_over_games
from sndqn.study.significance import permutation_test


def test_it_equals_the_count_of_all_relabellings() -> None:
    first = {"a": [3.0, 2.5, 1.0], "b": [0.9, 0.4]}
    second = {"a": [1.5, 0.5, 2.0], "b": [0.1, 0.8]}
    by_game, observed = [], 0.0
    for game, own in first.items():
        pooled = np.array([*own, *second[game]])
        pooled /= pooled.std()
        groups = itertools.combinations(range(len(pooled)), len(own))
        masks = [np.isin(np.arange(len(pooled)), group) for group in groups]
        by_game.append([pooled[mask].mean() - pooled[~mask].mean() for mask in masks])
        observed += pooled[: len(own)].mean() - pooled[len(own) :].mean()
    sums = [sum(each) for each in itertools.product(*by_game)]
    exact = np.mean([abs(each) >= abs(observed) - 1e-12 for each in sums])
    found = permutation_test_over_games(first, second)
    assert found.p == pytest.approx(exact, abs=0.015)  # 20 000 drawn of 120
    assert found.difference == pytest.approx(observed / 2)
    assert found.least_p == pytest.approx(2 / 120)


def test_a_scores_unit_does_not_matter() -> None:
    first, second = {"a": [3.0, 2.5], "b": [0.9, 0.4]}, {"a": [1.5, 2.6], "b": [0.1, 0.8]}
    as_cents = [{"a": [100 * v for v in arm["a"]], "b": arm["b"]} for arm in (first, second)]
    found, other = (
        permutation_test_over_games(first, second),
        permutation_test_over_games(*as_cents),
    )
    assert (found.p, found.least_p) == (other.p, other.least_p)


def test_of_one_game_it_is_the_games_test() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(1, 1, 6), rng.normal(0, 1, 6)
    alone = permutation_test(first, second)
    found = permutation_test_over_games({"a": first}, {"a": second})
    assert found.p == pytest.approx(alone.p, abs=0.015)
    assert found.least_p == pytest.approx(alone.least_p)


def test_equal_arms_are_rejected_as_often_as_said() -> None:
    rng = np.random.default_rng(1)
    rejected = 0
    for _ in range(150):
        arms = [{game: rng.exponential(size=5) for game in "abc"} for _ in range(2)]
        rejected += permutation_test_over_games(*arms).p < 0.05
    assert 1 <= rejected <= 17  # of Binomial(150, 0.05) 99.9 % is inside


def test_arms_of_other_games_are_refused() -> None:
    with pytest.raises(ScoresError, match="no scores of b"):
        permutation_test_over_games({"a": [1.0], "b": [1.0]}, {"a": [1.0]})
