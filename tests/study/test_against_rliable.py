"""Our numbers against rliable's, on its own example data (scripts/check_against_rliable.py)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sndqn.study.bootstrap import Array, estimate
from sndqn.study.curves import sample_efficiency
from sndqn.study.scores import normalised, references
from sndqn.study.statistics import AGGREGATES, probability_of_improvement, profile

DATA = Path(__file__).parent / "data"
RLIABLE = json.loads((DATA / "rliable.json").read_text())
AGENTS = ("SPR", "DrQ(eps)")


def atari_100k() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((DATA / "atari_100k.json").read_text())
    return data


def scores_of(agent: str, first: int = 0, runs: int = 100) -> dict[str, Array]:
    raw = {game: values[first : first + runs] for game, values in atari_100k()[agent].items()}
    return normalised(raw)


def within_bootstrap_error(low: Any, high: Any, theirs: Any, replicates: int) -> None:
    """Ends differ by less than 5 standard errors of two percentiles at 2.5 % of so many replicates.

    In units of the replicates' standard deviation, were they normal: a percentile's error is
    sqrt(p (1 - p) / n) over the density there, 0.058.
    """
    deviation = (np.asarray(theirs[1]) - theirs[0]) / 3.92
    allowed = 5 * np.sqrt(2 * 0.025 * 0.975 / replicates) / 0.058 * deviation
    assert np.all(np.abs(np.asarray(low) - theirs[0]) <= allowed + 1e-12)
    assert np.all(np.abs(np.asarray(high) - theirs[1]) <= allowed + 1e-12)


def test_our_random_and_human_scores_are_rliables() -> None:
    data = atari_100k()
    for game, random in data["random"].items():
        found = references()[game]
        assert (found.random, found.reference) == (random, data["human"][game])


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", AGGREGATES)
def test_aggregates_are_rliables(agent: str, name: str) -> None:
    theirs = RLIABLE[agent]
    ten, all_runs = scores_of(agent, runs=RLIABLE["runs"]), scores_of(agent)
    assert AGGREGATES[name](ten) == pytest.approx(theirs["aggregates"][name], abs=1e-12)
    of_all = theirs["aggregates_of_all_runs"][name]
    assert AGGREGATES[name](all_runs) == pytest.approx(of_all, abs=1e-12)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", AGGREGATES)
def test_intervals_of_aggregates_are_rliables_within_bootstrap_error(agent: str, name: str) -> None:
    # Fewer replicates than rliable's 50 000, which decide the error that is allowed.
    found = estimate(
        AGGREGATES[name],
        scores_of(agent, runs=RLIABLE["runs"]),
        replicates=10_000,
        method="percentile",
    )
    within_bootstrap_error(found.low, found.high, RLIABLE[agent]["intervals"][name], 10_000)


@pytest.mark.parametrize("agent", AGENTS)
def test_profiles_are_rliables(agent: str) -> None:
    found = profile(
        scores_of(agent, runs=RLIABLE["runs"]), RLIABLE["thresholds"], method="percentile"
    )
    assert found.value == pytest.approx(np.array(RLIABLE[agent]["profile"]), abs=1e-12)
    theirs = RLIABLE[agent]["profile_band"]
    assert found.low is not None
    assert found.high is not None
    # A share of 260 runs moves in steps, a replicate's percentile with it.
    step = 1 / 260
    assert np.all(np.abs(found.low - theirs[0]) <= 2 * step)
    assert np.all(np.abs(found.high - theirs[1]) <= 2 * step)


@pytest.mark.parametrize("agent", AGENTS)
def test_sample_efficiency_is_rliables(agent: str) -> None:
    # Thirty runs stand for ten runs at three steps, as in the script.
    at = [scores_of(agent, first, 10) for first in (0, 10, 20)]
    curves = {
        game: [([0, 1, 2], [at[step][game][run] for step in range(3)]) for run in range(10)]
        for game in at[0]
    }
    found = sample_efficiency(curves, method="percentile")
    assert found.value == pytest.approx(np.array(RLIABLE[agent]["curve"]), abs=1e-12)
    within_bootstrap_error(found.low, found.high, RLIABLE[agent]["curve_band"], 2000)


def test_probability_of_improvement_is_rliables() -> None:
    theirs = RLIABLE["improvement"]
    x, y = (scores_of(agent, runs=RLIABLE["runs"]) for agent in AGENTS)
    found = estimate(probability_of_improvement, x, y, replicates=10_000, method="percentile")
    assert found.value == pytest.approx(theirs["value"], abs=1e-12)
    within_bootstrap_error(found.low, found.high, theirs["interval"], 2000)
    of_all = probability_of_improvement(*(scores_of(agent) for agent in AGENTS))
    assert of_all == pytest.approx(theirs["of_all_runs"], abs=1e-12)
