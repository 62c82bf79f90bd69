"""Times training against Stable-Baselines3's DQN: same algorithm, batch and updates per step.

    python scripts/benchmark_dqn.py                     # Breakout, MinAtar/Breakout and CartPole
    python scripts/benchmark_dqn.py --env CartPole --output cartpole.json
    python scripts/benchmark_dqn.py --presets           # the shipped configurations, against `dqn`
    python scripts/benchmark_dqn.py --updates 5         # what SN costs an update

The contenders take turns of some seconds each, so that whatever else the machine does falls on all
of them; a ratio is the median over the rounds. Each lives in a process of its own, asleep between
its turns: in one process they would spoil each other's caches and heap (Stable-Baselines3's
updates took up to twice as long there), and memory could not be told apart.

One update of batch 32 per 4 steps everywhere. `sndqn` comes once for each selection of layers under
SN, with 8 environments on Atari and 16 elsewhere, and once, as "x4" or "x1", with as many as its
shipped settings have where that is another number. `sb3` is Stable-Baselines3's stock DQN, without
SN, in one environment as its users run it; `sb3 x8` the same in 8. SBX, its JAX sister, takes part
in CartPole where `sbx-rl` is installed.

With --presets the contenders are the configurations that ship for the environment, their number of
environments, batch and updates per step included; ratios are to `dqn`.

With --updates N only updates are timed, of `sndqn` alone; ratios are of times, to the first
selection. Two processes of the same code can differ by 3 %, by where their memory lies, so all of
them start anew N times; in every round of each start they take turns.
"""

import argparse
import importlib.util
import json
import multiprocessing
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ale_py
import gymnasium
import numpy as np
import torch
from needs import need
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.env_util import make_vec_env as make_sb3_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack
from torch import Tensor, nn

import sndqn
from sndqn.algorithms.acceleration import find_acceleration
from sndqn.envs import make_env, make_vec_env, resolve_env
from sndqn.policies import SNDQNPolicy, minatar_cnn, nature_cnn
from sndqn.runs.folder import provenance
from sndqn.training.build import build_algorithm, network_spec
from sndqn.training.config import make_config
from sndqn.training.config_files import read_config, shipped_configs, shipped_for

gymnasium.register_envs(ale_py)

# Where each is fastest, Stable-Baselines3 included: small networks gain nothing from two.
THREADS = {"Breakout": 2, "MinAtar/Breakout": 2, "CartPole": 1}
# Of sndqn, in one process; and in its shipped settings.
N_ENVS = {"Breakout": 8, "MinAtar/Breakout": 16, "CartPole": 16}
SHIPPED_N_ENVS = {"Breakout": 8, "MinAtar/Breakout": 4, "CartPole": 1}
STEPS_PER_UPDATE = 4
BATCH = 32
LEARNING_STARTS = 1_000
# Of one turn; a few seconds each.
TURN = {"Breakout": 400, "MinAtar/Breakout": 4_000, "CartPole": 8_000}


class PlainMinAtarCNN(BaseFeaturesExtractor):
    """What a user of Stable-Baselines3 writes for MinAtar, which its own CNN is too large for."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space, 128)
        n_channels = observation_space.shape[0]
        self.layers = nn.Sequential(
            nn.Conv2d(n_channels, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 128), nn.ReLU()
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Gives the features."""
        features: Tensor = self.layers(observations)
        return features


@dataclass
class Contender:
    """One algorithm at work, and a copy of its environments."""

    model: Any
    env: VecEnv

    @property
    def steps_per_update(self) -> float:
        """Environment steps for each update."""
        per_block = self.model.train_freq.frequency * self.model.n_envs
        return float(per_block / self.model.gradient_steps)

    def steps_turn(self, n_steps: int) -> float:
        """Trains on; gives steps per second."""
        before, start = self.model.num_timesteps, time.perf_counter()
        self.model.learn(n_steps, reset_num_timesteps=False, log_interval=None)
        return float((self.model.num_timesteps - before) / (time.perf_counter() - start))

    def learner_turn(self, n_updates: int) -> float:
        """Makes updates on the replay as it is; gives updates per second."""
        group = self.model.gradient_steps
        start = time.perf_counter()
        for _ in range(n_updates // group):
            self.model.train(group, self.model.batch_size)
        return n_updates // group * group / (time.perf_counter() - start)

    def env_turn(self, n_steps: int) -> float:
        """Steps a copy of the environments at random; gives steps per second."""
        n = self.env.num_envs
        actions = [np.array([self.env.action_space.sample() for _ in range(n)]) for _ in range(64)]
        self.env.reset()
        start = time.perf_counter()
        for i in range(max(n_steps // n, 1)):
            self.env.step(actions[i % 64])
        return max(n_steps // n, 1) * n / (time.perf_counter() - start)


def sb3_env(name: str, n_envs: int) -> VecEnv:
    """Makes the environments as a user of Stable-Baselines3 does."""
    if name == "Breakout":
        return VecFrameStack(make_atari_env("ALE/Breakout-v5", n_envs, env_kwargs=NO_SKIP), 4)
    if name == "CartPole":
        return make_sb3_vec_env("CartPole-v1", n_envs)
    return make_sb3_vec_env(lambda: make_env(resolve_env(name)), n_envs)


NO_SKIP = {"frameskip": 1, "repeat_action_probability": 0.0}


def arguments(n_envs: int, total_timesteps: int, device: str) -> dict[str, Any]:
    """Gives what every contender is told."""
    return {
        "buffer_size": min(100_000, total_timesteps),
        "learning_starts": LEARNING_STARTS,
        "batch_size": BATCH,
        "train_freq": max(STEPS_PER_UPDATE // n_envs, 1),
        "gradient_steps": max(n_envs // STEPS_PER_UPDATE, 1),
        "target_update_interval": 1_000,
        "exploration_fraction": 1e-9,
        "learning_rate": 1e-4,
        "seed": 0,
        "device": device,
    }


def make_sb3(name: str, n_envs: int, algorithm: Any, *run: Any) -> Contender:
    """Makes Stable-Baselines3's DQN, or SBX's."""
    env = sb3_env(name, n_envs)
    policy, policy_kwargs = "MlpPolicy", {}
    if name == "Breakout":
        policy = "CnnPolicy"
    elif name.startswith("MinAtar"):
        policy_kwargs = {"features_extractor_class": PlainMinAtarCNN, "net_arch": []}
    told = arguments(n_envs, *run)
    if algorithm is not SB3DQN:
        del told["device"]  # JAX chooses
    model = algorithm(policy, env, policy_kwargs=policy_kwargs, **told)
    return Contender(model, sb3_env(name, n_envs))


def make_sndqn(name: str, n_envs: int, sn_layers: str, *run: Any) -> Contender:
    """Makes sndqn's DQN as its command does."""
    settings = resolve_env(name, "sb3" if name == "Breakout" else None)
    env = make_vec_env(settings, n_envs, seed=0)
    extractors = {"Breakout": nature_cnn, "MinAtar/Breakout": minatar_cnn}
    policy_kwargs: dict[str, Any] = {"sn_layers": sn_layers}
    if name in extractors:
        policy_kwargs["features_extractor_class"] = extractors[name]
    model = sndqn.DQN(
        SNDQNPolicy,
        env,
        compile=True,
        policy_kwargs=policy_kwargs,
        **arguments(n_envs, *run),
    )
    return Contender(model, make_vec_env(settings, n_envs, seed=0))


def presets(name: str) -> list[str]:
    """Lists the shipped configurations for an environment, "dqn" first."""
    suite = resolve_env(name).suite
    known = {"c51", "iqn", "m-iqn", "qr-dqn", "rainbow"} | ({"btr"} if suite == "atari" else set())
    return ["dqn", *sorted(n for n in known if shipped_for(suite, name.lower(), n))]


def make_preset(name: str, preset: str, total_timesteps: int, device: str) -> Contender:
    """Makes what `sndqn train --config PRESET` trains."""
    settings = resolve_env(name)
    shipped = shipped_for(settings.suite, name.lower(), preset)
    assert shipped is not None
    assert shipped in shipped_configs()
    told: dict[str, Any] = {
        "env": name,
        "total_timesteps": total_timesteps,
        "learning_starts": LEARNING_STARTS,
        "exploration_warmup_timesteps": 0,
        "compile": "always",
        "device": device,
    }
    config = make_config({**read_config(shipped), **told})
    env = make_vec_env(settings, config.n_envs, seed=0)
    model = build_algorithm(config, env, network_spec(config, env.observation_space))
    return Contender(model, make_vec_env(settings, config.n_envs, seed=0))


def make(name: str, label: str, *run: Any) -> Contender:
    """Makes a contender by its label: "sb3 x8", "sbx x8", "sndqn -2 x4", "preset c51"."""
    library, _, rest = label.partition(" ")
    if library == "preset":
        return make_preset(name, rest, *run)
    if library == "sndqn":
        selection, _, n_envs = rest.partition(" x")
        return make_sndqn(name, int(n_envs or N_ENVS[name]), selection, *run)
    n_envs = int(rest[1:]) if rest else 1
    if library == "sbx":
        from sbx import DQN as SBXDQN

        return make_sb3(name, n_envs, SBXDQN, *run)
    return make_sb3(name, n_envs, SB3DQN, *run)


def work(pipe: Connection, name: str, label: str, total: int, device: str, threads: int) -> None:
    """Runs in a contender's process: does what it is told and answers with a rate."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    acceleration = find_acceleration()
    if acceleration is not None and label.partition(" ")[0] in ("sndqn", "preset"):
        acceleration.keep_freed_memory()  # as `sndqn train` does
    contender = make(name, label, total, device)
    contender.model.learn(LEARNING_STARTS + 200, log_interval=None)
    pipe.send(contender.steps_per_update)
    while (order := pipe.recv()) is not None:
        kind, n = order
        if kind == "memory":
            pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        else:
            pipe.send(getattr(contender, f"{kind}_turn")(n))


class Contest:
    """The contenders of one environment, each in a process of its own.

    Args:
        name: The environment.
        labels: The contenders'.
        turn: Steps of a turn.
        options: Of the command.
    """

    def __init__(
        self, name: str, labels: list[str], turn: int, options: argparse.Namespace
    ) -> None:
        total = LEARNING_STARTS + (options.rounds + 2) * turn
        context = multiprocessing.get_context("spawn")
        self._pipes: dict[str, Connection] = {}
        self._processes = []
        self.steps_per_update: dict[str, float] = {}
        for label in labels:
            self._pipes[label], theirs = context.Pipe()
            threads = options.threads or THREADS[name]
            target = (theirs, name, label, total, options.device, threads)
            self._processes.append(context.Process(target=work, args=target, daemon=True))
            self._processes[-1].start()
            self.steps_per_update[label] = self._pipes[label].recv()

    def ask(self, label: str, kind: str, n: int = 0) -> float:
        """Has one contender do something; gives its rate."""
        self._pipes[label].send((kind, n))
        return float(self._pipes[label].recv())

    def rates(self, kinds: dict[str, int], n_rounds: int) -> dict[str, dict[str, list[float]]]:
        """Has all take turns; gives each one's rates of each kind, one a round."""
        result: dict[str, dict[str, list[float]]] = {
            label: {kind: [] for kind in kinds} for label in self._pipes
        }
        for _ in range(n_rounds):
            for kind, n in kinds.items():
                for label in self._pipes:
                    result[label][kind].append(self.ask(label, kind, n))
        return result

    def close(self) -> None:
        """Ends the processes."""
        for pipe in self._pipes.values():
            pipe.send(None)
        for process in self._processes:
            process.join()


def measure(name: str, labels: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Lets the contenders take turns; gives medians and ratios to the first."""
    turn = max(int(TURN[name] * options.scale), 64)
    contest = Contest(name, labels, turn, options)
    kinds = {"steps": turn, "learner": max(turn // STEPS_PER_UPDATE, 16), "env": turn}
    rates = contest.rates(kinds, options.rounds)
    rows = {}
    for label, by_kind in rates.items():
        median = {kind: statistics.median(values) for kind, values in by_kind.items()}
        ratio = {
            kind: statistics.median(
                a / b for a, b in zip(values, rates[labels[0]][kind], strict=True)
            )
            for kind, values in by_kind.items()
        }
        ceilings = (
            a / contest.steps_per_update[label] / b
            for a, b in zip(by_kind["steps"], by_kind["learner"], strict=True)
        )
        rows[label] = {
            "steps_per_s": median["steps"],
            "steps_ratio": ratio["steps"],
            "updates_per_s": median["steps"] / contest.steps_per_update[label],
            "learner_updates_per_s": median["learner"],
            "learner_ratio": ratio["learner"],
            "share_of_learner_ceiling": statistics.median(ceilings),
            "env_steps_per_s": median["env"],
            "peak_memory_mb": contest.ask(label, "memory"),
            "all_steps_per_s": by_kind["steps"],
            "all_learner_updates_per_s": by_kind["learner"],
        }
    contest.close()
    return {
        "env": name,
        "threads": options.threads or THREADS[name],
        "turn_steps": turn,
        "rounds": options.rounds,
        "contenders": rows,
    }


def measure_updates(
    name: str, selections: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Lets selections of layers take turns at updates; gives the ratio of times of each start."""
    turn = max(int(TURN[name] * options.scale), 64) // STEPS_PER_UPDATE
    labels = [f"sndqn {selection}" for selection in selections]
    ratios: dict[str, list[float]] = {label: [] for label in labels}
    milliseconds: dict[str, list[float]] = {label: [] for label in labels}
    for _ in range(options.updates):
        contest = Contest(name, labels, turn * STEPS_PER_UPDATE, options)
        rates = contest.rates({"learner": turn}, options.rounds)
        contest.close()
        first = rates[labels[0]]["learner"]
        for label, rate in rates.items():
            times = [b / a for a, b in zip(rate["learner"], first, strict=True)]
            ratios[label].append(statistics.median(times))
            milliseconds[label].append(1e3 / statistics.median(rate["learner"]))
        print(f"{name}: " + ", ".join(f"{n} {r[-1]:.3f}" for n, r in ratios.items()), flush=True)
    return {
        "env": name,
        "threads": options.threads or THREADS[name],
        "turn_updates": turn,
        "rounds": options.rounds,
        "milliseconds": milliseconds,
        "time_ratios": ratios,
        "median_time_ratio": {label: statistics.median(r) for label, r in ratios.items()},
    }


def show(result: dict[str, Any]) -> None:
    """Prints the table of one environment."""
    print(f"\n{result['env']}: medians of {result['rounds']} turns of {result['turn_steps']} steps")
    print(
        "                steps/s  ratio  learner updates/s  ratio  of ceiling  env steps/s  peak MB"
    )
    for label, row in result["contenders"].items():
        print(
            f"{label:13s} {row['steps_per_s']:9,.0f} {row['steps_ratio']:6.2f} "
            f"{row['learner_updates_per_s']:18,.1f} {row['learner_ratio']:6.2f} "
            f"{row['share_of_learner_ceiling']:11.0%} {row['env_steps_per_s']:12,.0f} "
            f"{row['peak_memory_mb']:8,.0f}"
        )


def contenders(name: str, selections: list[str]) -> list[str]:
    """Lists who takes part, by label."""
    labels = ["sb3", f"sb3 x{N_ENVS[name]}"]
    if name == "CartPole":
        if importlib.util.find_spec("sbx"):
            labels.append(f"sbx x{N_ENVS[name]}")
        else:
            print("sbx-rl is not installed: SBX does not take part")
    labels += [f"sndqn {selection}" for selection in selections]
    if SHIPPED_N_ENVS[name] != N_ENVS[name]:
        selection = "-2" if "-2" in selections else selections[0]
        labels.append(f"sndqn {selection} x{SHIPPED_N_ENVS[name]}")
    return labels


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description="Times training against Stable-Baselines3's DQN.")
    parser.add_argument("--env", nargs="+", default=list(TURN), choices=list(TURN))
    parser.add_argument("--layers", default="none -2 all", help="selections of layers, by spaces")
    parser.add_argument("--presets", nargs="*", help="shipped configurations by name, or all")
    parser.add_argument("--updates", type=int, help="time updates alone, in so many starts")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="length of a turn")
    parser.add_argument("--threads", type=int, help="of a tensor operation; 2, in CartPole 1")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    peers = options.updates is None and options.presets is None
    opencv = ["cv2"] if "Breakout" in options.env and peers else []
    minatar = ["minatar"] if "MinAtar/Breakout" in options.env else []
    need(*opencv, *minatar, output=options.output)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "torch finds no CUDA device: nothing was measured. Leave out --device cuda for the CPU"
        )
        return
    machine, results = provenance(), []
    for name in options.env:
        if options.updates:
            results.append(measure_updates(name, options.layers.split(), options))
            print(results[-1]["median_time_ratio"])
            continue
        if options.presets is not None:
            chosen = [n for n in presets(name) if n == "dqn" or n in (options.presets or [n])]
            labels = [f"preset {preset}" for preset in chosen]
        else:
            labels = contenders(name, options.layers.split())
        results.append(measure(name, labels, options))
        show(results[-1])
    if options.output:
        record = {
            "command": " ".join(["python", *sys.argv]),
            "device": options.device,
            "provenance": machine,
            "results": results,
        }
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
