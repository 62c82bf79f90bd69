"""Times an update with each of the tricks in sndqn.acceleration taken away, one at a time.

    python scripts/ablation.py --output docs/data/ablation.json

Updates of DQN with SN on -2 in one process, on one batch and one network; those with and without a
trick take turns. What is timed is the CPU's time for one thread, which other processes disturb
little; a ratio is the median over turns of the time without the trick to that with all of them.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import benchmark_dqn
import numpy as np
import torch
from needs import need

from sndqn.acceleration import compilation
from sndqn.acceleration.compiled_update import CompiledUpdate
from sndqn.runs.folder import provenance

# Updates of a turn.
TURN = {"CartPole": 200, "MinAtar/Breakout": 50, "Breakout": 2}


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Has a module's name stand for something else in a block."""
    old = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, old)


# What to replace, and by what, to compile without a trick.
TRICKS: dict[str, tuple[Any, str, Any]] = {
    "small convolutions": (compilation, "decompositions", dict),
    "TorchInductor's options": (compilation, "_OPTIONS", {}),
}


def updates(env: str) -> dict[str, Callable[[], object]]:
    """Gives an update of one model with everything on, and without each trick."""
    model = benchmark_dqn.make(env, "sndqn -2", 3_000, "cpu").model
    model.compile = False
    model.learn(benchmark_dqn.LEARNING_STARTS + 16, log_interval=None)
    model._trust_sigma(True)
    samples = model.draw_samples(benchmark_dqn.BATCH)
    observations = torch.as_tensor(np.array(model._last_obs))

    def compiled() -> Callable[[], object]:
        update = CompiledUpdate(model.update, samples, 1, observations)
        return lambda: update.run_updates(samples, 1, 0)

    found = {"everything": compiled(), "compilation": lambda: model.update(samples)}
    found["nothing"] = found["everything"]  # by how far it is from 1, no ratio says anything
    for name, trick in TRICKS.items():
        with replaced(*trick):
            found[name] = compiled()
        print(f"{env}: compiled without {name}", flush=True)
    return found


def measure(env: str, rounds: int) -> dict[str, Any]:
    """Lets the updates take turns; gives the ratios of their times."""
    contenders = updates(env)
    times: dict[str, list[float]] = {}
    for round_ in range(rounds + 1):
        turns = list(contenders.items())
        for name, update in turns if round_ % 2 else reversed(turns):
            update()
            start = time.thread_time()
            for _ in range(TURN[env]):
                update()
            seconds = (time.thread_time() - start) / TURN[env]
            if round_:  # the first warms up
                times.setdefault(name, []).append(seconds)
    ratios = {
        name: statistics.median(a / b for a, b in zip(own, times["everything"], strict=True))
        for name, own in times.items()
    }
    return {
        "env": env,
        "milliseconds": 1e3 * statistics.median(times["everything"]),
        "time_without": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }


def main() -> None:
    """Measures and prints a line for each environment."""
    parser = argparse.ArgumentParser(description="Times updates without each trick for speed.")
    parser.add_argument("--env", nargs="+", default=list(TURN), choices=list(TURN))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    need("minatar", output=options.output)
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    record = {"command": " ".join(["python", *sys.argv]), "provenance": provenance()}
    record["results"] = results = []
    for env in options.env:
        results.append(measure(env, options.rounds))
        print(results[-1], flush=True)
        if options.output:
            options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
