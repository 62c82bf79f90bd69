"""Folders of runs with the files that a training leaves, made without training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sndqn.evaluation.protocol import EpisodeResult, EvaluationProtocol, EvaluationRecord
from sndqn.files import write_json
from sndqn.runs.folder import RunFolder
from sndqn.training.config import make_config

LAYERS = {"features_extractor.linear.0": -2, "q_net.0": -1}


def make_run(
    folder: Path,
    env: str = "MinAtar/Breakout",
    seed: int = 0,
    score: float | None = 10.0,
    points: int = 20,
    **settings: Any,
) -> Path:
    """Makes a run whose returns rise to a score; None leaves it in the middle of training."""
    total = 1000 * points
    values = {"env": env, "seed": seed, "total_timesteps": total, "learning_starts": 10}
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run.config.write_text(make_config({**values, **settings}).to_yaml())
    rng = np.random.default_rng(seed)
    reached = points if score is not None else points // 2
    level = 5.0 if score is None else score
    lines = [_line(1000 * (at + 1), level * (at + 1) / points, rng) for at in range(reached)]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.timing.write_text(json.dumps({"timesteps": 1000 * reached, "seconds": 12.5}) + "\n")
    rows = [{"index": index, "name": name} for name, index in LAYERS.items()]
    write_json(run.layers, {"before": rows})
    provenance = {"command": ["sndqn", "train"], "started": "2026-11-30T20:00:00+0000"}
    if score is not None:
        provenance["finished"] = "2026-11-30T21:00:00+0000"
        write_json(run.evaluation, make_evaluation(env, score).to_dict())
    write_json(run.provenance, provenance)
    steps = np.arange(1, reached + 1) * 1000
    returns = np.array([[line["rollout/ep_rew_mean"]] * 3 for line in lines])
    np.savez(run.curve, timesteps=steps, results=returns, ep_lengths=np.ones_like(returns))
    return folder


def make_study(root: Path, envs: list[str], seeds: int, gain: float = 5.0, **how: Any) -> Path:
    """Makes finished runs of two arms; the one with SN scores higher by `gain` on average."""
    for number, env in enumerate(envs):
        for seed in range(seeds):
            noise = float(np.random.default_rng([number, seed]).normal())
            name = f"{number}-{seed}"
            make_run(root / f"none-{name}", env, seed, 10 + noise, sn_layers="none", **how)
            make_run(root / f"sn-{name}", env, seed, 10 + gain - noise, sn_layers="-2", **how)
    return root


def make_factorial(root: Path, envs: list[str], cold: float, hot: float) -> Path:
    """Makes finished runs with SN and without at two learning rates; SN adds so much at each."""
    for number, env in enumerate(envs):
        for seed in range(6):
            noise = iter(np.random.default_rng([number, seed]).normal(size=4))
            for rate, gain in ((1e-4, cold), (1e-3, hot)):
                for sn, more in (("none", 0.0), ("-2", gain)):
                    how = {"sn_layers": sn, "learning_rate": rate}
                    name = f"{number}-{seed}-{rate}-{sn}"
                    make_run(root / name, env, seed, 10 + more + float(next(noise)), 2, **how)
    return root


def _line(step: int, level: float, rng: np.random.Generator) -> dict[str, Any]:
    sigma = {f"sn/{name}/sigma": 1.0 + step / 1e4 for name in LAYERS}
    mean = level + float(rng.normal()) / 10
    return {"timesteps": step, "rollout/ep_rew_mean": mean, "train/loss": 1.0, **sigma}


def make_evaluation(env: str, score: float, episodes: int = 4) -> EvaluationRecord:
    """Makes an evaluation of an even number of episodes with this mean."""
    protocol = EvaluationProtocol(episodes=episodes, seed=1000)
    results = [
        EpisodeResult(
            protocol.episode_seed(k), score + (-1.0) ** k, 100 + k, "terminated", "0" * 64
        )
        for k in range(episodes)
    ]
    return EvaluationRecord(protocol, {"suite": "any", "game": env}, tuple(results))
