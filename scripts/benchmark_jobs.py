"""Measures steps per second of a study's runs side by side, and one after the other on all threads.

    python scripts/benchmark_jobs.py

The same runs, MinAtar with and without SN, are made by `sndqn sweep --jobs N` with a thread each,
and by `sndqn sweep --jobs 1` with N threads, in turns, so that a machine that slows down slows
both. Steps are counted over the whole time of the command, its start and its evaluation included.
Nothing else should run meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = {
    "total_timesteps": 60_000,
    "learning_starts": 1_000,
    "eval_episodes": 1,
    "eval_max_steps": 100,
    "checkpoint_every_timesteps": 0,
    "tensorboard": False,
    "sticky_actions": 0.1,
}
ARMS = {"none": {"sn_layers": "none"}, "sn-2": {"sn_layers": "-2"}}


def main() -> None:
    """Makes the runs both ways in turns and prints steps per second and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timesteps", type=int, default=SETTINGS["total_timesteps"])
    arguments = parser.parse_args()
    sides, ratios = [], []
    for index in range(arguments.rounds):
        beside = steps_per_second(arguments.jobs, 1, arguments.timesteps)
        after = steps_per_second(1, arguments.jobs, arguments.timesteps)
        sides.append(beside)
        ratios.append(beside / after)
        print(
            f"round {index + 1}: {beside:,.0f} steps/s by --jobs {arguments.jobs}, {after:,.0f} "
            f"one after the other with {arguments.jobs} threads: {ratios[-1]:.2f} times",
            flush=True,
        )
    print(f"median: {statistics.median(ratios):.2f} times, {statistics.median(sides):,.0f} steps/s")


def steps_per_second(jobs: int, threads: int, timesteps: int) -> float:
    """Makes a study and returns the steps of all its runs over the seconds it took."""
    settings = {**SETTINGS, "total_timesteps": timesteps, "threads": threads}
    games = ["MinAtar/Breakout", "MinAtar/Asterix"]
    design = {"env": games, "seed": 0, "arms": ARMS, "settings": settings}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "design.yaml"
        file.write_text(json.dumps(design))
        command = [sys.executable, "-m", "sndqn.cli", "sweep", f"{folder}/study"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        begun = time.monotonic()
        subprocess.run(
            [*command, "--study", str(file), "--jobs", str(jobs)],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        return timesteps * len(games) * len(ARMS) / (time.monotonic() - begun)


if __name__ == "__main__":
    main()
