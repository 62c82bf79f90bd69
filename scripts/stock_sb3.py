"""Trains Stable-Baselines3's own DQN with torch's spectral_norm, with sndqn's policy, and without.

    python scripts/stock_sb3.py runs/stock --env MinAtar/Breakout --seeds 5 --timesteps 300000
    sndqn report runs/stock

SN is on the layer before the output. Each run has a folder as `sndqn train` makes it, with what
diagnostics say of the target network: how far its Q-values are from the online network's right
after a sync, which makes it a copy, and the norm of its normalised layer, which should be 1. A run
that is finished is left as it is, one that was interrupted is made again.

The settings are those of `minatar/dqn-adam`, as far as Stable-Baselines3 has them; its loss
(Huber), its clipping of gradients (10) and its one environment are its own.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from needs import need
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch.nn.utils import parametrizations

import sndqn
from sndqn.agents.evaluations import write_evaluation
from sndqn.diagnostics.networks import action_values
from sndqn.diagnostics.sigma import layer_sigma
from sndqn.diagnostics.targets import gap_after_sync, synced_copy, target_gap
from sndqn.envs import make_vec_env, resolve_env
from sndqn.evaluation import EvaluationProtocol, evaluate
from sndqn.evaluation.values import NetworkValues
from sndqn.files import write_json, write_text
from sndqn.policies import minatar_cnn
from sndqn.runs.folder import RunFolder, now, provenance
from sndqn.runs.metrics import MetricsPaths, make_logger
from sndqn.spectral import weight_layers
from sndqn.training.callbacks import GamesCallback
from sndqn.training.config import TrainConfig, make_config
from sndqn.training.config_files import read_config

STATES = 256  # the first of the replay, which every measurement looks at


class TorchSNPolicy(DQNPolicy):
    """Stable-Baselines3's policy with torch's one line on the layer before the output."""

    def make_q_net(self) -> QNetwork:
        network = super().make_q_net()
        parametrizations.spectral_norm(weight_layers(network)[-2].layer)
        return network


ARMS: dict[str, tuple[type[DQNPolicy], dict[str, Any]]] = {
    "none": (DQNPolicy, {}),
    "torch-sn": (TorchSNPolicy, {}),
    "sndqn-sn": (sndqn.SNCnnPolicy, {"sn_layers": "-2"}),
}


class Watch(BaseCallback):
    """Writes a record of metrics and one of the target network every so many steps.

    Args:
        every_timesteps: Steps between two.
        file: Of the diagnostics, a line of JSON each.
    """

    def __init__(self, every_timesteps: int, file: Path) -> None:
        super().__init__()
        self.every_timesteps = every_timesteps
        self.file = file

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every_timesteps == 0:
            model: Any = self.model
            model.dump_logs()
            if self.num_timesteps > model.learning_starts:
                with self.file.open("a") as file:
                    file.write(json.dumps(self._look(model)) + "\n")
        return True

    def _look(self, model: Any) -> dict[str, Any]:
        states = torch.from_numpy(model.replay_buffer.observations[:STATES, 0]).to(model.device)
        online, target = (action_values(n, states) for n in (model.q_net, model.q_net_target))
        layers = layer_sigma(model.q_net)
        for name, row in layer_sigma(synced_copy(model).q_net_target).items():
            layers[name]["target_sigma_after_sync"] = row["sigma_effective"]
        return {
            "timesteps": self.num_timesteps,
            "q_mean": float(online.mean()),
            "target_gap": target_gap(online, target),
            "target_gap_after_sync": gap_after_sync(model, states),
            "layers": layers,
        }


def config_of(env: str, arm: str, seed: int, timesteps: int) -> TrainConfig:
    """The settings in sndqn's words."""
    return make_config(
        {
            **read_config("minatar/dqn-adam"),
            "env": env,
            "seed": seed,
            "total_timesteps": timesteps,
            "title": arm,
            "n_envs": 1,
            "loss": "huber",
            "max_grad_norm": 10.0,
            "sn_layers": "none" if arm == "none" else "-2",
            "threads": 1,
        }
    )


def make_model(config: TrainConfig, arm: str) -> DQN:
    policy, more = ARMS[arm]
    return DQN(
        policy,
        make_vec_env(resolve_env(config.env), seed=config.seed),
        learning_rate=config.learning_rate,
        buffer_size=config.buffer_size,
        learning_starts=config.learning_starts,
        batch_size=config.batch_size,
        gamma=config.gamma,
        train_freq=config.train_freq,
        target_update_interval=config.target_update_interval,
        exploration_fraction=min(1.0, config.exploration_timesteps / config.total_timesteps),
        exploration_final_eps=config.exploration_final_eps,
        policy_kwargs={
            "features_extractor_class": minatar_cnn,
            "net_arch": [],
            "optimizer_kwargs": {"eps": config.optimizer_eps},
            **more,
        },
        seed=config.seed,
        device="cpu",
    )


def train(folder: RunFolder, config: TrainConfig, arm: str, every_timesteps: int) -> None:
    """Makes one run."""
    if "finished" in folder.read_provenance():
        return
    shutil.rmtree(folder.path, ignore_errors=True)
    folder.path.mkdir(parents=True)
    write_text(
        folder.config,
        "# As far as they hold: scripts/stock_sb3.py trained Stable-Baselines3's DQN with them.\n"
        + config.to_yaml(),
    )
    origin = {**provenance(), "command": ["python", *sys.argv], "arm": arm}
    write_json(folder.provenance, origin)
    model = make_model(config, arm)
    model.set_logger(make_logger(MetricsPaths(folder.metrics, folder.timing, games=folder.games)))
    watch = Watch(every_timesteps, folder.path / "diagnostics.jsonl")
    model.learn(config.total_timesteps, [GamesCallback(), watch], log_interval=None)
    model.logger.close()
    model.policy.set_training_mode(False)
    protocol = EvaluationProtocol(
        episodes=config.eval_episodes,
        epsilon=config.eval_epsilon,
        max_steps=config.eval_max_steps,
    )
    record = evaluate(resolve_env(config.env), NetworkValues(model.q_net), protocol)
    write_evaluation(folder, record)
    write_json(folder.provenance, {**origin, "finished": now()})
    print(f"{folder.path}: {record.mean:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the runs go")
    parser.add_argument("--env", nargs="+", default=["MinAtar/Breakout"])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--timesteps", type=int, default=300_000)
    parser.add_argument("--every", type=int, default=10_000, help="steps between records")
    options = parser.parse_args()
    need("minatar")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for seed in range(options.seeds):
        for env in options.env:
            for arm in options.arms:
                name = f"{env.replace('/', '-')}-{arm}-seed{seed}"
                config = config_of(env, arm, seed, options.timesteps)
                train(RunFolder(options.folder / name), config, arm, options.every)


if __name__ == "__main__":
    main()
