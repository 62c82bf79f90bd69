"""Writes what a study's runs measured as one small JSON file, to be committed beside its YAML.

    python scripts/study_scores.py runs/stage-b docs/evidence/stage-b.json

Finished runs alone. Runs that the file has already stay in it, so a study may be made in parts, on
several machines; a run that is in both is taken from the folder.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sndqn.files import write_text
from sndqn.study.results import RunResult, read_results

POINTS = 20  # of a curve
# What the evidence speaks of.
LAYER_MEASURES = ("sigma", "sigma_effective", "target_sigma_after_sync")
NETWORK_MEASURES = ("target_gap", "target_gap_after_sync", "dormant_0.025", "srank")


def main() -> None:
    """Reads the study and writes its scores."""
    parser = argparse.ArgumentParser(description="Write what a study's finished runs measured.")
    parser.add_argument("study", type=Path, help="the study's folder")
    parser.add_argument("output", type=Path, help="the JSON file")
    parser.add_argument("--commit", help="of the code, where the runs do not say it")
    arguments = parser.parse_args()
    entries = {}
    if arguments.output.is_file():
        entries = {key(old): old for old in json.loads(arguments.output.read_text())["runs"]}
    for run in read_results([arguments.study]).runs:
        if run.status == "done":
            found = entry(run, arguments.commit)
            entries[key(found)] = found
    lines = ",\n".join(json.dumps(entries[name], allow_nan=False) for name in sorted(entries))
    write_text(arguments.output, f'{{"runs": [\n{lines}\n]}}\n')


def key(entry: dict[str, Any]) -> tuple[str, str, int]:
    """Gives what a run of a study is known by."""
    return entry["env"], entry["arm"], entry["seed"]


def entry(run: RunResult, commit: str | None) -> dict[str, Any]:
    """Says of a run what it is, what it scored, and how training went.

    `networks` and `layers` are what was measured of them last, `layer_peaks` the most it ever was.
    `last_tenth` and `all_steps` are means of the moving average over 100 training games, over the
    last tenth of the steps and over all of them; `peak` is its maximum, `end` its last value.
    """
    assert run.evaluation is not None
    total = run.settings["total_timesteps"]
    returns = run.training_returns
    assert returns is not None
    curve = dict(zip(returns.timesteps.tolist(), returns.values.tolist(), strict=True))
    curve = {step: value for step, value in curve.items() if not math.isnan(value)}
    values = list(curve.values())
    return {
        "env": run.env,
        "arm": run.arm,
        "seed": run.seed,
        "commit": run.provenance.get("commit") or commit,
        "timesteps": run.course.timesteps,
        "mean": run.evaluation.mean,
        "std": run.evaluation.std,
        "episodes": len(run.evaluation.episodes),
        "last_tenth": mean_of([x for step, x in curve.items() if step > 0.9 * total]),
        "all_steps": mean_of(values),
        "peak": max(values, default=None),
        "end": values[-1] if values else None,
        "curve": thinned(curve, total),
        "networks": {
            name: rounded(series.values[-1])
            for name, series in run.course.totals.items()
            if name in NETWORK_MEASURES
        },
        "layers": by_layer(run, lambda values: values[-1]),
        "layer_peaks": by_layer(run, max),
        "seconds": run.seconds,
    }


def by_layer(
    run: RunResult, chosen: Callable[[list[float]], float]
) -> dict[str, dict[str, float | None]]:
    """Gives one value of each quantity of each layer."""
    return {
        name: {layer: rounded(chosen(series.values.tolist())) for layer, series in layers.items()}
        for name, layers in run.course.layers.items()
        if name in LAYER_MEASURES
    }


def thinned(curve: dict[float, float], total: int) -> dict[str, list[Any]]:
    """Takes the last point up to each of `POINTS` even steps."""
    steps = sorted(curve)
    chosen = []
    for i in range(1, POINTS + 1):
        before = [step for step in steps if step <= total * i / POINTS]
        if before and before[-1] not in chosen:
            chosen.append(before[-1])
    return {"timesteps": chosen, "mean_return": [rounded(curve[step]) for step in chosen]}


def rounded(value: float) -> float | None:
    """Keeps five digits, which is more than a measurement has; None of what is no number."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def mean_of(values: Sequence[float]) -> float | None:
    """Gives the mean, and None of nothing."""
    return rounded(statistics.fmean(values)) if values else None


if __name__ == "__main__":
    main()
