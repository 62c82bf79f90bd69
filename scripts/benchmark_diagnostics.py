"""Measures what diagnostics cost a training: seconds a measurement, and their share at the default.

    python scripts/benchmark_diagnostics.py --output docs/data/benchmark-diagnostics.json

Each environment's shipped `dqn`, compiled, on one thread. Processor time, so that it matters little
what else the machine does. Steps are timed without the rest of a run (metrics, checkpoints,
evaluations on the way), so that the share comes out a little too large.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from needs import need
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from sndqn.runs.folder import provenance
from sndqn.training.build import build
from sndqn.training.config import TrainConfig
from sndqn.training.config_files import layered_config
from sndqn.training.diagnosing import N_STATES, look_at, try_out
from sndqn.training.plan import plan

# Steps before the first update, and of the training that is timed.
STARTS = 2_500
STEPS = {"CartPole": 12_000, "MinAtar/Breakout": 12_000, "Breakout": 2_000}


class Timer(BaseCallback):
    """Times measurements, and the steps between them, once updates are compiled."""

    def __init__(self, n_steps: int, rounds: int) -> None:
        super().__init__()
        self.n_steps, self.rounds = n_steps, rounds
        self.next_at = STARTS + n_steps // 10
        self.begun: tuple[float, int] | None = None
        self.of_steps: list[float] = []
        self.basic: list[float] = []
        self.tried: list[float] = []

    def _on_step(self) -> bool:
        if self.num_timesteps < self.next_at:
            return True
        if self.begun is not None:
            seconds, step = self.begun
            spent = time.process_time() - seconds
            self.of_steps.append(spent / (self.num_timesteps - step))
        self._measure()
        self.next_at += self.n_steps // self.rounds
        self.begun = (time.process_time(), self.num_timesteps)
        return True

    def _measure(self) -> None:
        model: Any = self.model
        replay, draw = model.replay_buffer, np.random.default_rng(0)
        places = draw.choice(replay.size() * replay.n_envs, N_STATES, replace=False)
        states = replay.gather(places // replay.n_envs, places % replay.n_envs).observations
        begun = time.process_time()
        look_at(model, states)
        middle = time.process_time()
        try_out(model, states, draw)
        self.basic.append(middle - begun)
        self.tried.append(time.process_time() - middle)


def measure(config: TrainConfig, n_steps: int, rounds: int) -> dict[str, Any]:
    """Trains a while and gives medians, and shares at the default interval."""
    changed = {"learning_starts": STARTS, "compile": "always", "buffer_size": 20_000}
    short = config.model_copy(update=changed)
    (state,) = build(plan(short), Console(quiet=True))
    timer = Timer(n_steps, rounds)
    state.model.learn(STARTS + n_steps + n_steps // 5, timer, log_interval=None)
    state.journal.close()
    step, basic = statistics.median(timer.of_steps), statistics.median(timer.basic)
    whole = basic + statistics.median(timer.tried)
    every = min(config.diagnostics_every_timesteps, config.total_timesteps)
    return {
        "env": config.env,
        "seconds_a_step": round(step, 7),
        "seconds": {"basic": round(basic, 4), "all": round(whole, 4)},
        "every_timesteps": every,
        "share_percent": {
            "basic": round(100 * basic / (every * step), 3),
            "all": round(100 * whole / (every * step), 3),
        },
    }


def main() -> None:
    """Measures all and prints a line for each environment."""
    parser = argparse.ArgumentParser(description="Measures what diagnostics cost.")
    parser.add_argument("--env", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    need("minatar", output=options.output)
    torch.set_num_threads(1)
    rows = []
    for env in options.env:
        config = layered_config({"env": env, "threads": 1})
        rows.append(measure(config, STEPS[env], options.rounds))
        print(json.dumps(rows[-1]), flush=True)
    if options.output:
        command = " ".join(["python", *sys.argv])
        record = {"command": command, "rows": rows, "provenance": provenance()}
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
