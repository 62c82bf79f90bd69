"""Measures by how much training underestimates σ: the stored one against the exact, per layer.

    python scripts/measure_sigma.py --output docs/data/sigma.json

Each shipped configuration with SN on all layers that can have it, from its first update on; its
buffer is smaller and its first update earlier than shipped, and updates are not compiled. σ is
compared after each of the first twenty updates and at intervals from then on. What is printed and
written is how much of the exact σ is missing, in percent: mean and worst over updates and seeds.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from needs import need

from sndqn.algorithms.update import Result, Update
from sndqn.envs import make_vec_env
from sndqn.replay import Batch
from sndqn.runs.folder import provenance
from sndqn.spectral import SpectralLayer
from sndqn.training.build import build_algorithm, network_spec
from sndqn.training.config import TrainConfig
from sndqn.training.config_files import layered_config, shipped_configs
from sndqn.training.plan import env_settings

# The environment of a configuration that is for a whole suite; others have it in their name.
OF_SUITE = {"atari": "Breakout", "minatar": "MinAtar/Breakout", "control": "CartPole"}
ENVS = {
    "acrobot": "Acrobot",
    "cartpole": "CartPole",
    "lunarlander": "LunarLander",
    "mountaincar": "MountainCar",
}
LEARNING_STARTS = 500
# btr's network takes a GPU.
LEFT_OUT = ("atari/btr",)
# Updates between comparisons: seconds each on Atari.
EVERY = {"atari": 100, "minatar": 10, "control": 10}


class Watched(Update):
    """The update of a model; calls a function after each."""

    def __init__(self, model: Any, after: Callable[[], None]) -> None:
        super().__init__(model.policy, model.update.settings)
        self._after = after

    def __call__(self, batch: Batch, *, converge: bool = False) -> Result:
        """Makes an update."""
        result = super().__call__(batch, converge=converge)
        self._after()
        return result


class Measurement:
    """Compares σ after updates of a model.

    Args:
        model: An algorithm whose updates are not compiled.
        every: Updates between comparisons, after the first twenty.

    Attributes:
        missing: Percent of the exact σ, by layer.
    """

    def __init__(self, model: Any, every: int) -> None:
        modules = model.q_net.named_modules()
        self._layers = {n: m for n, m in modules if isinstance(m, SpectralLayer)}
        self.missing: dict[str, list[float]] = {name: [] for name in self._layers}
        self._every, self._n_updates = every, 0
        model.update = Watched(model, self._compare)

    def _compare(self) -> None:
        self._n_updates += 1
        if self._n_updates > 20 and self._n_updates % self._every:
            return
        for name, layer in self._layers.items():
            afresh = copy.deepcopy(layer)
            afresh.reset_sigma()
            sigma = float(layer.running_sigma)
            exact = max(float(afresh.running_sigma), sigma)
            self.missing[name].append(100 * (1 - sigma / exact))


def configurations(chosen: list[str]) -> Iterator[tuple[str, TrainConfig]]:
    """Gives the configurations to measure, by name."""
    for name in shipped_configs():
        suite, stem = name.split("/")
        ending = stem.rpartition("-")[2]
        env = ENVS.get(ending, OF_SUITE[suite])
        if name in LEFT_OUT or (chosen and name not in chosen):
            continue
        flags: dict[str, Any] = {
            "env": env,
            "sn_layers": "all",
            "learning_starts": LEARNING_STARTS,
            "buffer_size": 5_000,
            "exploration_warmup_timesteps": 0,
            "exploration_timesteps": 5_000,
            "threads": 1,
        }
        config = layered_config(flags, name)
        if config.noisy:  # SN on a noisy layer is refused
            config = config.model_copy(update={"sn_layers": "features_extractor"})
        yield name, config


def measure(config: TrainConfig, seed: int, n_updates: int, every: int) -> dict[str, list[float]]:
    """Trains once; gives the shares of σ that are missing, in percent, by layer."""
    config = config.model_copy(update={"seed": seed, "compile": "never"})
    env = make_vec_env(env_settings(config), config.n_envs, seed=seed)
    model = build_algorithm(config, env, network_spec(config, env.observation_space))
    measurement = Measurement(model, every)
    steps = LEARNING_STARTS + n_updates * config.train_freq // config.gradient_steps
    model.learn(steps, log_interval=None)
    env.close()
    return measurement.missing


def main() -> None:
    """Measures all and prints a line for each configuration."""
    parser = argparse.ArgumentParser(description="Measures by how much σ is underestimated.")
    parser.add_argument("--config", nargs="+", default=[], help="names as in configs/ (all)")
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    need("minatar", output=options.output)
    torch.set_num_threads(1)
    rows, machine = [], provenance()
    for name, config in configurations(options.config):
        every = EVERY[name.split("/")[0]]
        runs = [measure(config, seed, options.updates, every) for seed in range(options.seeds)]
        layers = {
            layer: {
                "mean": round(float(np.mean([run[layer] for run in runs])), 4),
                "worst": round(float(np.max([run[layer] for run in runs])), 3),
            }
            for layer in runs[0]
        }
        rate = config.learning_rate
        rows.append({"config": name, "learning_rate": rate, "layers": layers})
        row = ", ".join(f"{n} {v['mean']:.3f} ({v['worst']:.2f})" for n, v in layers.items())
        print(f"{name} {rate:g}: {row}", flush=True)
        if options.output:  # after each: some take minutes
            command = " ".join(["python", *sys.argv])
            record = {"command": command, "rows": rows, "provenance": machine}
            options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
