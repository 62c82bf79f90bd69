"""Intervals come from seeds within games, are reproducible, and absent where data allow none."""

import itertools

import numpy as np
import pytest
from scipy import stats

from sndqn.errors import ScoresError
from sndqn.study import bootstrap, statistics
from sndqn.study.bootstrap import (
    Array,
    Samples,
    band,
    estimate,
    replicated,
    samples_of,
    share_outside,
)

TWO_GAMES = {"Breakout": [1.0, 4.0, 2.5], "Asterix": [10.0, 30.0]}


def test_every_resample_of_a_small_sample_comes_as_often_as_it_should() -> None:
    # Three seeds of one game and two of the other: 27 x 4 equally likely resamples.
    exact = sorted(
        np.mean([np.mean(a), np.mean(b)])
        for a in itertools.product(TWO_GAMES["Breakout"], repeat=3)
        for b in itertools.product(TWO_GAMES["Asterix"], repeat=2)
    )
    drawn = replicated(statistics.mean, [samples_of(TWO_GAMES)], 200_000, seed=1)
    grid = np.linspace(0, 20, 200)
    found = np.searchsorted(np.sort(drawn), grid, side="right") / drawn.size
    expected = np.searchsorted(exact, grid + 1e-9, side="right") / len(exact)
    assert np.abs(found - expected).max() < 0.005


def test_a_game_is_never_resampled_from_another() -> None:
    seen: list[Samples] = []

    def look(samples: Samples) -> Array:
        seen.append(samples)
        return statistics.mean(samples)

    replicated(look, [samples_of(TWO_GAMES)], 1000, seed=0)
    for game, scores in TWO_GAMES.items():
        drawn = np.concatenate([samples[game] for samples in seen])
        assert drawn.shape == (1000, len(scores))
        assert set(drawn.ravel()) == set(scores)


def test_arms_are_resampled_on_their_own() -> None:
    scores = {"Breakout": np.arange(10.0)}
    both = replicated(lambda a, b: statistics.mean(a) - statistics.mean(b), [scores] * 2, 1000, 0)
    assert np.ptp(both) > 0
    assert abs(both.mean()) < 0.2


def test_the_same_seed_gives_the_same_interval_and_another_nearly_the_same() -> None:
    first, again, other = (estimate(statistics.iqm, TWO_GAMES, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other or first.low == other.low
    assert first.low == pytest.approx(other.low, rel=0.05)


def test_replicates_beyond_what_is_held_at_a_time_are_as_many_as_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstrap, "_AT_A_TIME", 64)
    assert replicated(statistics.mean, [samples_of(TWO_GAMES)], 101, seed=0).shape == (101,)


def test_axes_before_the_seeds_are_resampled_together() -> None:
    # A run is drawn with its whole curve: the second step stays the double of the first.
    scores = samples_of({"Breakout": np.array([[1.0, 2.0, 5.0], [2.0, 4.0, 10.0]])})
    curves = replicated(statistics.mean, [scores], 500, seed=0)
    assert curves.shape == (500, 2)
    assert curves[:, 1] == pytest.approx(2 * curves[:, 0])
    assert np.ptp(curves[:, 0]) > 0


@pytest.mark.parametrize("seeds", [4, 10, 30])
def test_expanded_percentiles_are_as_far_out_as_students_t_and_the_lost_spread(seeds: int) -> None:
    arms = [samples_of({"Breakout": np.arange(seeds)})]
    assert share_outside(arms, 0.95, "percentile") == pytest.approx(0.025)
    t = stats.t.ppf(0.975, seeds - 1)
    found = stats.norm.isf(share_outside(arms, 0.95, "expanded"))
    assert found == pytest.approx(t * (seeds / (seeds - 1)) ** 0.5, rel=0.01)


def test_games_estimate_their_spread_together() -> None:
    arms = [samples_of({game: np.arange(10.0) for game in "ABCDE"})]
    expected = stats.norm.cdf(-stats.t.ppf(0.975, 45) * (10 / 9) ** 0.5)
    assert share_outside(arms, 0.95, "expanded") == pytest.approx(expected, rel=1e-3)


def test_the_expanded_interval_of_a_mean_is_students() -> None:
    scores = np.random.default_rng(0).normal(5, 2, 12)
    found = estimate(statistics.mean, {"Breakout": scores})
    students = stats.t.interval(0.95, 11, scores.mean(), scores.std(ddof=1) / 12**0.5)
    assert (found.low, found.high) == pytest.approx(students, abs=0.06 * np.ptp(students))


def test_one_seed_of_a_game_gives_a_value_and_says_why_no_interval() -> None:
    found = estimate(statistics.mean, {**TWO_GAMES, "Freeway": [3.0]})
    assert found.value == pytest.approx((2.5 + 20 + 3) / 3)
    assert (found.low, found.high) == (None, None)
    assert found.note == "no interval: one seed of Freeway"


def test_one_seed_of_a_curve_says_so_too() -> None:
    found = band([0.5], lambda s: statistics.mean(s), {"Freeway": [[3.0]]})
    assert found.value == pytest.approx([3.0])
    assert found.low is None
    assert found.note == "no interval: one seed of Freeway"


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({}, "at least one game"),
        ({"Breakout": []}, "a score for each seed"),
        ({"Breakout": 3.0}, "a score for each seed"),
        ({"Breakout": [1.0, float("nan")]}, "not finite"),
        ({"Breakout": [1.0, float("inf")]}, "not finite"),
    ],
)
def test_scores_that_are_none_are_refused(scores: dict[str, list[float]], words: str) -> None:
    with pytest.raises(ScoresError, match=words):
        estimate(statistics.mean, scores)


def test_arms_on_different_games_are_refused_by_the_missing_games_names() -> None:
    with pytest.raises(ScoresError, match="arm 2 of 2 has no scores of Asterix"):
        statistics.difference(TWO_GAMES, {"Breakout": [1.0, 2.0]})
