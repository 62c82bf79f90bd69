"""Intervals hold what they are intervals of as often as they say, where seeds are enough."""

import numpy as np
import pytest

from sndqn.study.bootstrap import Array, Samples, estimate
from sndqn.study.statistics import iqm, mean

LEVELS = {"Asterix": 0.6, "Breakout": 0.8, "Freeway": 1.0, "Qbert": 1.2, "Seaquest": 1.4}
SIMULATIONS = 2000


def scores(rng: np.random.Generator, seeds: int) -> dict[str, Array]:
    return {game: rng.normal(level, 0.2 * level, seeds) for game, level in LEVELS.items()}


def difference(first: Samples, second: Samples) -> Array:
    return iqm(first) - iqm(second)


@pytest.mark.slow
@pytest.mark.parametrize(("statistic", "arms"), [(mean, 1), (iqm, 1), (difference, 2)])
def test_of_ten_seeds_and_five_games_the_interval_holds_the_truth_in_93_to_97_percent(
    statistic, arms: int
) -> None:
    rng = np.random.default_rng(0)
    truth = 0.0 if arms == 2 else float(statistic(scores(rng, 1_000_000)))
    held = 0
    for number in range(SIMULATIONS):
        drawn = [scores(rng, 10) for _ in range(arms)]
        found = estimate(statistic, *drawn, replicates=2000, seed=number)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 0.93 <= held / SIMULATIONS <= 0.97
