"""Writes the scores of a study's runs as a small JSON file, to be committed beside its YAML.

Usage: python scripts/study_scores.py runs/control docs/evidence/control.json --commit 3e04201
"""

import argparse
from pathlib import Path
from typing import Any

from sndqn.files import write_json
from sndqn.study.results import RunResult, read_results


def main() -> None:
    """Reads the study and writes its scores, finished runs alone."""
    parser = argparse.ArgumentParser(description="Write the scores of a study's finished runs.")
    parser.add_argument("study", type=Path, help="the study's folder")
    parser.add_argument("output", type=Path, help="the JSON file")
    parser.add_argument("--commit", required=True, help="of the code that made the runs")
    arguments = parser.parse_args()
    runs = [run for run in read_results([arguments.study]).runs if run.status == "done"]
    runs.sort(key=lambda run: (run.env, run.arm, run.seed))
    write_json(arguments.output, {"commit": arguments.commit, "runs": [entry(run) for run in runs]})


def entry(run: RunResult) -> dict[str, Any]:
    """Says of a run what it is and what it scored."""
    assert run.evaluation is not None
    return {
        "env": run.env,
        "arm": run.arm,
        "seed": run.seed,
        "timesteps": run.course.timesteps,
        "mean": run.evaluation.mean,
        "std": run.evaluation.std,
        "episodes": len(run.evaluation.episodes),
        "seconds": run.seconds,
    }


if __name__ == "__main__":
    main()
