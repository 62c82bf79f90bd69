"""Two CartPoles on one torso, the rewards of one a hundred times larger: SN on the heads or not.

    python examples/task_heads_rl.py

The second has a pole twice as long. `sndqn.train("A,B")` trains both in turn, by squared TD errors.
Found: docs/examples/task-heads.md.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

import sndqn

ARMS = {"plain, equal rewards": (1, "none"), "plain": (100, "none"), "SN on the heads": (100, "-1")}
TASKS = {"short": "CartPole, reward 1", "long": "longer pole"}
TIMESTEPS = 12_000  # of both together
# A torso of one layer, a linear head, squared errors.
SETTINGS: dict[str, Any] = {
    "features_dim": 64, "net_arch": (), "loss": "mse", "double": True, "optimizer": "adam",
    "learning_rate": 1e-3, "batch_size": 64, "buffer_size": 10_000, "train_freq": 2,
    "gradient_steps": 1, "learning_starts": 200, "target_update_interval": 4, "tau": 0.02,
    "exploration_timesteps": 2_000, "exploration_final_eps": 0.05, "eval_epsilon": 0.0,
    "eval_episodes": 20, "keep_best": False, "eval_every_timesteps": 0, "compile": "never",
    "n_envs": 4, "threads": 1, "overlap": False, "diagnostics": "none", "tensorboard": False,
}  # fmt: skip


def long_cartpole(reward: int, **arguments: Any) -> gym.Env[Any, Any]:
    """Makes CartPole with a pole twice as long and another reward for each step."""
    env = CartPoleEnv(**arguments)
    env.length, env.polemass_length = 1.0, env.masspole * 1.0
    return gym.wrappers.TransformReward(env, lambda one: one * reward)


def learn(arm: str, seed: int, timesteps: int) -> common.Run:
    """Trains both CartPoles; returns the mean number of steps that each agent keeps its pole up."""
    reward, layers = ARMS[arm]
    other = f"LongCartPole{reward}-v0"
    if other not in gym.registry:
        gym.register(other, long_cartpole, kwargs={"reward": reward}, max_episode_steps=500)
    with tempfile.TemporaryDirectory() as folder:
        run = sndqn.train(
            f"CartPole-v1,{other}", sn_layers=layers, seed=seed, total_timesteps=timesteps,
            runs_dir=folder, verbose=False, **SETTINGS,
        )  # fmt: skip
        short, long = (run.tasks[name].evaluation.mean for name in ("CartPole-v1", other))
    return {"arm": arm, "seed": seed, "short": short, "long": long / reward}


def measure(seeds: int, length: float) -> Iterator[common.Run]:
    """Trains every arm."""
    for seed in range(seeds):
        for arm in ARMS:
            yield learn(arm, seed, max(600, int(TIMESTEPS * length)))


def tables(runs: list[common.Run]) -> str:
    """Writes both tasks' steps upright, and what each arm gains over the plain one."""
    others, rows = [arm for arm in ARMS if arm != "plain"], []
    more = [common.gains(runs, task, others, "plain", 0) for task in TASKS]
    for arm in ARMS:
        scores = [common.interval(common.of(runs, task, arm=arm), 0) for task in TASKS]
        rows.append([arm, scores[0], more[0].get(arm, ""), scores[1], more[1].get(arm, "")])
    return common.table(["", TASKS["short"], "over plain", TASKS["long"], "over plain"], rows)


def draw(runs: list[common.Run], path: Path) -> None:
    """Draws each seed's steps upright."""
    figure, axes = common.canvas(1, 1, (6, 3.8))
    for i, (task, label) in enumerate(TASKS.items()):
        scores = [common.of(runs, task, arm=arm) for arm in ARMS]
        common.points(axes[0, 0], [k + 0.15 * i for k in range(len(ARMS))], scores, i, label, False)
    names = [arm.replace(", ", ",\n").replace(" on", "\non") for arm in ARMS]
    axes[0, 0].set(xticks=range(len(ARMS)), xticklabels=names, title="steps upright, of 500")
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


EXAMPLE = common.Example("task-heads-rl", (__doc__ or "").splitlines()[0], measure, tables, draw)
if __name__ == "__main__":
    EXAMPLE.main()
