"""Asks whether speed costs learning: the fast path against the eager reference, seed by seed.

    python scripts/compare_learning.py --env CartPole --output cartpole.json
    python scripts/compare_learning.py --env MinAtar/Breakout --output minatar.json

The reference learns after each step instead of during it, uncompiled, in one environment, so that
all of what makes the fast path fast is asked about; in as many as that has, all but their number.
A run's score is the mean return of the episodes that ended in the last third of its training. The
interval is a bootstrap of the difference of means over seeds, 10 000 resamples of each side.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from needs import need
from stable_baselines3.common.callbacks import BaseCallback

from sndqn.envs import make_vec_env
from sndqn.runs.folder import provenance
from sndqn.training.build import build_algorithm, network_spec
from sndqn.training.config import make_config
from sndqn.training.config_files import read_config
from sndqn.training.plan import env_settings

VARIANTS: dict[str, dict[str, Any]] = {
    "reference": {"overlap": False, "compile": "never"},
    "fast": {"overlap": True, "compile": "always"},
}
CONFIG = {"CartPole": "control/dqn-cartpole", "MinAtar/Breakout": "minatar/dqn"}
# Short enough for ten seeds of both; otherwise the settings that ship.
SHORT: dict[str, dict[str, Any]] = {
    "CartPole": {"total_timesteps": 30_000},
    "MinAtar/Breakout": {"total_timesteps": 50_000, "exploration_timesteps": 10_000},
}


class Returns(BaseCallback):
    """Collects the return of every episode, with the step it ended at."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.episodes.append((self.num_timesteps, float(info["episode"]["r"])))
        return True


def score(name: str, seed: int, variant: dict[str, Any]) -> dict[str, float]:
    """Trains once; gives the score and the time."""
    settings = {**read_config(CONFIG[name]), **SHORT[name], **variant, "seed": seed, "threads": 1}
    config = make_config({**settings, "env": name, "eval_every_timesteps": 0, "keep_best": False})
    env = make_vec_env(env_settings(config), config.n_envs, seed=seed)
    model = build_algorithm(config, env, network_spec(config, env.observation_space))
    returns, start = Returns(), time.perf_counter()
    model.learn(config.total_timesteps, returns, log_interval=None)
    late = [r for step, r in returns.episodes if step > config.total_timesteps * 2 / 3]
    return {"score": float(np.mean(late)), "seconds": round(time.perf_counter() - start, 1)}


def interval(reference: list[float], fast: list[float]) -> tuple[float, float]:
    """Bootstraps the 95 % interval of mean(fast) - mean(reference)."""
    rng = np.random.default_rng(0)
    means = [rng.choice(x, (10_000, len(x))).mean(axis=1) for x in (fast, reference)]
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Runs all seeds of both, and writes what there is after each."""
    parser = argparse.ArgumentParser(description="Asks whether speed costs learning.")
    parser.add_argument("--env", choices=list(SHORT), required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--n-envs", type=int, help="of the fast path; otherwise what ships")
    parser.add_argument("--reference-envs", type=int, default=1, help="of the reference; 1")
    parser.add_argument("--reference", type=Path, help="earlier output, to take the reference from")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    need(*(["minatar"] if options.env == "MinAtar/Breakout" else []), output=options.output)
    machine = provenance()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    variants = {name: dict(variant) for name, variant in VARIANTS.items()}
    variants["reference"]["n_envs"] = options.reference_envs
    if options.n_envs:
        variants["fast"]["n_envs"] = options.n_envs
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    known = json.loads(options.reference.read_text())["runs"] if options.reference else {}
    for seed in range(options.seeds):
        for name, variant in variants.items():
            if name == "reference" and known:
                runs[name].append(known[name][seed])
                continue
            runs[name].append(score(options.env, seed, variant))
            print(f"seed {seed} {name}: {runs[name][-1]}", flush=True)
        scores = {name: [run["score"] for run in done] for name, done in runs.items()}
        record = {
            "command": " ".join(["python", *sys.argv]),
            "settings": SHORT[options.env],
            "variants": variants,
            "runs": runs,
            "means": {name: float(np.mean(values)) for name, values in scores.items()},
            "difference_95": interval(scores["reference"], scores["fast"]),
            "provenance": machine,
        }
        options.output.write_text(json.dumps(record, indent=1) + "\n")
    print(record["means"], record["difference_95"])


if __name__ == "__main__":
    main()
