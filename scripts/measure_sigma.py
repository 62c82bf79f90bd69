"""Measures by how much training underestimates σ: the stored one against the exact, per layer.

    python scripts/measure_sigma.py --output docs/sigma.json

Uncompiled updates with SN on all layers, σ compared after each of the first twenty and every tenth;
once as sndqn's algorithms make a power iteration, begun in the forward pass ("beside"), and once
with the whole of it after the step ("after"). Percent of the exact σ, mean and worst over seeds.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from needs import need

import sndqn
from sndqn.envs import make_vec_env, resolve_env
from sndqn.policies import SNDQNPolicy, minatar_cnn
from sndqn.runs.folder import provenance
from sndqn.spectral import SpectralLayer

POLICIES: dict[str, dict[str, Any]] = {
    "CartPole": {},
    "MinAtar/Breakout": {"features_extractor_class": minatar_cnn},
}
LEARNING_STARTS = 500


class Measured(sndqn.DQN):
    """DQN that compares σ after its steps."""

    def measure(self, begins_beside: bool) -> dict[str, list[float]]:
        """Starts to compare; gives, by layer, where the results will be."""
        policy: Any = self.policy
        policy.set_begins_beside(begins_beside)
        modules = self.q_net.named_modules()
        self._layers = {n: m for n, m in modules if isinstance(m, SpectralLayer)}
        self._n_steps = 0
        self._shortfalls: dict[str, list[float]] = {name: [] for name in self._layers}
        return self._shortfalls

    def apply_gradients(self, *args: Any) -> None:
        """Makes the step, then compares."""
        super().apply_gradients(*args)
        self._n_steps += 1
        if self._n_steps > 20 and self._n_steps % 10:
            return
        for name, layer in self._layers.items():
            exact = layer.exact_sigma(effective=False)
            self._shortfalls[name].append(100 * (1 - float(layer.running_sigma) / exact))


def shortfalls(
    env_name: str, learning_rate: float, begins_beside: bool, seed: int, n_updates: int
) -> dict[str, list[float]]:
    """Trains once; gives the shortfalls in percent, by layer."""
    env = make_vec_env(resolve_env(env_name), 4, seed=seed)
    model = Measured(
        SNDQNPolicy,
        env,
        compile=False,
        policy_kwargs={"sn_layers": "all", **POLICIES[env_name]},
        buffer_size=5_000,
        learning_starts=LEARNING_STARTS,
        target_update_interval=200,
        train_freq=1,
        learning_rate=learning_rate,
        seed=seed,
        device="cpu",
    )
    found = model.measure(begins_beside)
    model.learn(LEARNING_STARTS + 4 * n_updates, log_interval=None)
    return found


def main() -> None:
    """Runs all and prints a line for each."""
    parser = argparse.ArgumentParser(description="Measures by how much σ is underestimated.")
    parser.add_argument("--env", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[1e-4, 5e-4, 1e-3, 1e-2])
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    need(*(["minatar"] if "MinAtar/Breakout" in options.env else []), output=options.output)
    torch.set_num_threads(1)
    rows, machine = [], provenance()
    for env_name in options.env:
        for rate in options.learning_rates:
            for way in ("after", "beside"):
                runs = [
                    shortfalls(env_name, rate, way == "beside", seed, options.updates)
                    for seed in range(options.seeds)
                ]
                layers = {
                    name: {
                        "mean": float(np.mean([run[name] for run in runs])),
                        "worst": float(np.max([run[name] for run in runs])),
                    }
                    for name in runs[0]
                }
                rows.append({"env": env_name, "learning_rate": rate, "way": way, "layers": layers})
                row = ", ".join(f"{v['mean']:.3f} ({v['worst']:.2f})" for v in layers.values())
                print(f"{env_name} {rate:g} {way}: {row}", flush=True)
    if options.output:
        record = {"command": " ".join(["python", *sys.argv]), "rows": rows, "provenance": machine}
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
