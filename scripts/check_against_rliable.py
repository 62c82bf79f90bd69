"""Asks rliable for the numbers that ours are tested against, and writes them.

    python -m venv rliable-env
    rliable-env/bin/pip install rliable "pandas<3"
    rliable-env/bin/python scripts/check_against_rliable.py

rliable (Agarwal et al., NeurIPS 2021) does not work with pandas 3, so it has an environment of its
own. Its example data, Atari 100k, are in tests/study/data/atari_100k.json, its numbers beside them;
tests/study/test_against_rliable.py compares.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rliable import library, metrics

DATA = Path(__file__).parent.parent / "tests" / "study" / "data"
# As rliable's notebook compares: ten runs, 50 000 replicates of an aggregate, 2 000 of a curve.
RUNS, REPLICATES, REPLICATES_OF_CURVES = 10, 50_000, 2_000
THRESHOLDS = [-0.1, 0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0]
AGGREGATES = {
    "iqm": metrics.aggregate_iqm,
    "mean": metrics.aggregate_mean,
    "median": metrics.aggregate_median,
    "optimality_gap": metrics.aggregate_optimality_gap,
}


def human_normalised(data: dict[str, Any], agent: str) -> np.ndarray:
    """An array (runs, games) of an agent's scores, games in alphabetical order."""
    columns = [
        (np.array(data[agent][game]) - data["random"][game])
        / (data["human"][game] - data["random"][game])
        for game in sorted(data[agent])
    ]
    return np.stack(columns, axis=1)


def aggregates(scores: np.ndarray) -> np.ndarray:
    return np.array([aggregate(scores) for aggregate in AGGREGATES.values()])


def iqm_of_each_step(scores: np.ndarray) -> np.ndarray:
    return np.array([metrics.aggregate_iqm(scores[..., i]) for i in range(scores.shape[-1])])


def with_interval(scores: Any, function: Any, replicates: int) -> tuple[list, list]:
    """Its value and interval; it draws from numpy's global generator."""
    np.random.seed(0)
    values, intervals = library.get_interval_estimates({"x": scores}, function, reps=replicates)
    return np.atleast_1d(values["x"]).tolist(), intervals["x"].tolist()


def main() -> None:
    data = json.loads((DATA / "atari_100k.json").read_text())
    every = {agent: human_normalised(data, agent) for agent in ("SPR", "DrQ(eps)")}
    ten = {agent: scores[:RUNS] for agent, scores in every.items()}
    found: dict[str, Any] = {
        "made_by": f"python scripts/check_against_rliable.py, rliable {version('rliable')}, "
        f"numpy {np.__version__}",
        "runs": RUNS,
        "replicates": REPLICATES,
        "replicates_of_curves": REPLICATES_OF_CURVES,
        "thresholds": THRESHOLDS,
    }
    for agent, scores in every.items():
        values, intervals = with_interval(ten[agent], aggregates, REPLICATES)
        np.random.seed(0)
        profiles, bands = library.create_performance_profile(
            {"x": ten[agent]}, np.array(THRESHOLDS), reps=REPLICATES_OF_CURVES
        )
        # Thirty runs of the data stand for ten runs at three steps: the same numbers, other names.
        steps = scores[: 3 * RUNS].reshape(3, RUNS, -1).transpose(1, 2, 0)
        curve, curve_band = with_interval(steps, iqm_of_each_step, REPLICATES_OF_CURVES)
        found[agent] = {
            "aggregates": dict(zip(AGGREGATES, values, strict=True)),
            "intervals": dict(zip(AGGREGATES, np.transpose(intervals).tolist(), strict=True)),
            "aggregates_of_all_runs": dict(zip(AGGREGATES, aggregates(scores), strict=True)),
            "profile": profiles["x"].tolist(),
            "profile_band": bands["x"].tolist(),
            "curve": curve,
            "curve_band": curve_band,
        }
    pair = [ten["SPR"], ten["DrQ(eps)"]]
    values, intervals = with_interval(
        pair, metrics.probability_of_improvement, REPLICATES_OF_CURVES
    )
    found["improvement"] = {
        "value": values[0],
        "interval": np.ravel(intervals).tolist(),
        "of_all_runs": metrics.probability_of_improvement(*every.values()),
    }
    (DATA / "rliable.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
