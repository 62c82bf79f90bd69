"""Draws what torch's spectral_norm does inside Stable-Baselines3's DQN, beside sndqn's.

Both train stock DQN on CartPole with SN on the hidden layer before the output; the one by
`torch.nn.utils.parametrizations.spectral_norm`, the other by `sndqn.SNMlpPolicy`. Every 500 steps
the exact norm of that layer in the *target* network and the return of the last 20 episodes are
noted. Writes docs/data/broken-target.json and docs/broken-target.png:

    python scripts/plot_broken_target.py [--seeds 3] [--timesteps 20000]
"""

import argparse
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from needs import need
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch.nn.utils import parametrizations

import sndqn

VARIANTS = {
    "torch": "torch.nn.utils.parametrizations.spectral_norm",
    "sndqn": "sndqn.SNMlpPolicy",
}
DOCS = Path(__file__).parent.parent / "docs"


class TorchSNPolicy(DQNPolicy):
    """The obvious way: torch's one line on layer -2."""

    def make_q_net(self) -> QNetwork:
        network = super().make_q_net()
        parametrizations.spectral_norm(network.q_net[2])
        return network


class Watch(BaseCallback):
    """Notes the target's norm and the return."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps % 500 == 0:
            layer: Any = self.model.policy.q_net_target.q_net[2]
            weight = getattr(layer, "effective_weight", None)
            weight = layer.weight if weight is None else weight
            games = list(self.model.ep_info_buffer or [])[-20:]
            self.points.append(
                {
                    "timesteps": self.num_timesteps,
                    "target_norm": float(torch.linalg.matrix_norm(weight.detach().double(), 2)),
                    "return": float(np.mean([game["r"] for game in games])) if games else 0.0,
                }
            )
        return True


def run(job: tuple[str, int, int]) -> dict[str, Any]:
    variant, seed, timesteps = job
    torch.set_num_threads(1)
    watch = Watch()
    DQN(
        TorchSNPolicy if variant == "torch" else sndqn.SNMlpPolicy,
        "CartPole-v1",
        learning_rate=1e-3,
        batch_size=64,
        learning_starts=1000,
        train_freq=2,
        target_update_interval=100,
        exploration_fraction=0.3,
        policy_kwargs={"net_arch": [64, 64]},
        seed=seed,
        device="cpu",
    ).learn(timesteps, watch)
    return {"variant": variant, "seed": seed, "points": watch.points}


def plot(results: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
    for result in results:
        broken = result["variant"] == "torch"
        steps = [point["timesteps"] for point in result["points"]]
        style = {"color": "#c0392b" if broken else "#1f6fb2", "lw": 1.6, "alpha": 0.8}
        style["label"] = VARIANTS[result["variant"]] if result["seed"] == 0 else None
        left.plot(steps, [point["target_norm"] for point in result["points"]], **style)
        right.plot(steps, [point["return"] for point in result["points"]], **style)
    left.set(yscale="log", xlabel="steps", title="norm of the target network's layer (should be 1)")
    right.set(xlabel="steps", title="return, last 20 training episodes", ylim=(0, None))
    left.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--timesteps", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--plot-only", action="store_true", help="draw docs/data/broken-target.json again"
    )
    arguments = parser.parse_args()
    need("matplotlib")
    record = DOCS / "data" / "broken-target.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.plot_only:
        jobs = [(v, seed, arguments.timesteps) for seed in range(arguments.seeds) for v in VARIANTS]
        with multiprocessing.Pool(arguments.processes) as pool:
            record.write_text(json.dumps(pool.map(run, jobs, chunksize=1)) + "\n")
    plot(json.loads(record.read_text()), DOCS / "broken-target.png")


if __name__ == "__main__":
    main()
