"""SumTree against a plain cumulative sum."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sndqn.errors import ConfigError
from sndqn.replay import SumTree

# Of one, two and three levels, full ones and such as end within a row.
SIZES = [1, 2, 63, 1024, 1025, 4096, 65_536, 70_001]


def filled(size: int, values: Any) -> SumTree:
    tree = SumTree(size)
    tree.update(np.arange(size), np.asarray(values, np.float64))
    return tree


def sparse_integers(rng: np.random.Generator, size: int) -> Any:
    """Priorities whose sums are exact, most of them 0."""
    return rng.integers(0, 10, size) * (rng.random(size) < rng.choice([0.01, 0.3, 1.0]))


def owners(leaves: Any, prefixes: Any) -> Any:
    """The leaves that own prefixes of the sum, where sums are exact."""
    owned = leaves.cumsum().searchsorted(prefixes, side="right")
    return np.minimum(owned, np.flatnonzero(leaves)[-1])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SIZES), st.integers(0, 10**6))
def test_prefixes_are_found_where_the_cumulative_sum_says(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    leaves = sparse_integers(rng, size).astype(np.float64)
    leaves[rng.integers(size)] = 1
    tree = filled(size, leaves)
    assert tree.total == leaves.sum()
    boundaries = rng.choice(leaves.cumsum(), 50)
    inside = rng.random(50) * tree.total
    prefixes = np.concatenate([[0, tree.total], boundaries, inside, np.nextafter(boundaries, 0)])
    np.testing.assert_array_equal(tree.find(prefixes), owners(leaves, prefixes))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SIZES), st.integers(0, 10**6))
def test_updates_in_any_order_give_the_tree_of_the_last_values(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree, leaves = SumTree(size), np.zeros(size)
    for _ in range(20):
        indices = rng.integers(0, size, 40)
        values = sparse_integers(rng, 40).astype(np.float64)
        tree.update(indices, values)
        for index, value in zip(indices, values, strict=True):
            leaves[index] = value
    np.testing.assert_array_equal(tree.get(np.arange(size)), leaves)
    assert tree.total == leaves.sum()
    if tree.total:
        prefixes = rng.random(200) * tree.total
        np.testing.assert_array_equal(tree.find(prefixes), owners(leaves, prefixes))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SIZES), st.sampled_from([0, 2, 20, 250]), st.integers(0, 10**6))
def test_a_leaf_of_priority_zero_is_never_found_however_sums_round(
    size: int, exponents: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-exponents, exponents, size)
    leaves = rng.random(size) * scales * (rng.random(size) < rng.choice([0.001, 0.5, 0.99]))
    leaves[rng.integers(size)] = 1.0
    tree = filled(size, leaves)
    fractions = np.concatenate([[0.0, 1.0, 1 - 2**-53], rng.random(300)])
    ends = np.minimum(leaves.cumsum(), tree.total)
    prefixes = np.concatenate([fractions * tree.total, rng.choice(ends, 300)])
    found = tree.find(prefixes)
    assert leaves[found].all()
    # The right leaf up to rounding: the prefix lies in what it owns.
    after, slack = leaves.cumsum()[found], 1e-12 * tree.total
    assert (prefixes <= after + slack).all()
    assert (prefixes >= after - leaves[found] - slack).all()


def test_of_several_values_for_one_leaf_the_last_holds() -> None:
    tree = SumTree(5000)
    tree.update(np.array([7, 4999, 7, 7, 8]), np.array([5.0, 1.0, 9.0, 2.0, 3.0]))
    np.testing.assert_array_equal(tree.get(np.array([7, 8, 4999, 0])), [2, 3, 1, 0])
    assert tree.total == 6


def test_the_total_is_the_sum_of_the_leaves_after_a_hundred_thousand_updates() -> None:
    rng = np.random.default_rng(0)
    tree = SumTree(3000)
    for _ in range(3125):
        scales = 10.0 ** rng.uniform(-9, 9, 32)
        tree.update(rng.integers(0, 3000, 32), rng.random(32) * scales)
    exact = math.fsum(tree.get(np.arange(3000)))
    assert tree.total == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("size", SIZES)
def test_a_huge_priority_leaves_no_trace_once_it_is_replaced(size: int) -> None:
    """Sums that are kept up to date by differences would have lost the small ones."""
    tree = filled(size, np.full(size, 2.0**-20))
    tree.update(np.array([size // 2]), np.array([2.0**80]))
    tree.update(np.array([size // 2]), np.array([2.0**-20]))
    assert tree.total == size * 2.0**-20


def test_a_cleared_tree_is_as_new() -> None:
    tree = filled(2000, np.ones(2000))
    tree.clear()
    assert tree.total == 0
    assert not tree.get(np.arange(2000)).any()
    tree.update(np.array([3]), np.array([1.0]))
    np.testing.assert_array_equal(tree.find(np.array([0.0, 0.5, 1.0])), [3, 3, 3])


@pytest.mark.parametrize("size", [10, 2000])
@pytest.mark.parametrize("bad", [-1.0, -1e-300, np.nan, np.inf, -np.inf, 1.7e308])
def test_what_is_no_priority_is_refused_and_changes_nothing(bad: float, size: int) -> None:
    tree = filled(size, np.ones(size))
    with pytest.raises(ValueError, match=r"expected priorities from 0 to .* found"):
        tree.update(np.array([0, 1, 2]), np.array([5.0, bad, 5.0]))
    assert tree.total == size


def test_the_sum_of_the_highest_priorities_is_finite() -> None:
    tree = SumTree(2000)
    tree.update(np.arange(2000), np.full(2000, tree.highest))
    assert np.isfinite(tree.total)
    np.testing.assert_array_equal(tree.find(np.array([0.0, tree.total])), [0, 1999])


@pytest.mark.parametrize("bad", [-1, 1030, 1087])
def test_numbers_of_no_leaf_are_refused_and_change_nothing(bad: int) -> None:
    """Past the end too, where the last row has room for more."""
    tree = filled(1030, np.ones(1030))
    with pytest.raises(IndexError, match=f"from 0 to 1029, found {bad}"):
        tree.update(np.array([0, bad]), np.array([5.0, 5.0]))
    assert tree.total == 1030


@pytest.mark.parametrize("bad", [-1e-9, 3.1, np.nan, np.inf])
def test_prefixes_that_are_none_are_refused(bad: float) -> None:
    tree = filled(3, np.ones(3))
    with pytest.raises(ValueError, match=r"from 0 to the total, 3\.0, found"):
        tree.find(np.array([1.0, bad]))


def test_an_empty_tree_has_nothing_to_find() -> None:
    with pytest.raises(ValueError, match="expected a priority above 0"):
        SumTree(10).find(np.array([0.0]))


def test_denormal_priorities_count_as_zero() -> None:
    """Where the CPU flushes them they would vanish between an update and a search."""
    tree = filled(3, [5e-324, 1.0, 2e-308])
    np.testing.assert_array_equal(tree.get(np.arange(3)), [0, 1, 0])
    np.testing.assert_array_equal(tree.find(np.array([0.0, 1.0])), [1, 1])


def test_nothing_to_update_or_find_is_fine() -> None:
    tree = filled(3, np.ones(3))
    tree.update(np.zeros(0, np.int64), np.zeros(0))
    assert tree.total == 3
    assert len(tree.find(np.zeros(0))) == 0


def test_a_tree_without_leaves_is_refused() -> None:
    with pytest.raises(ConfigError, match="size: expected"):
        SumTree(0)
