"""Threads: one where a network is small, and one while somebody else uses the cores."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import sndqn
from sndqn.acceleration import threads
from sndqn.acceleration.threads import (
    WORK_WORTH_THREADS,
    ThreadsCallback,
    choose_threads,
    work_of_update,
)
from sndqn.envs import make_vec_env, resolve_env
from sndqn.training.config import make_config
from sndqn.training.run import train


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def model(env: str, **arguments: Any) -> Any:
    vector = make_vec_env(resolve_env(env), 1, seed=0)
    names = {"MinAtar/Breakout": "minatar_cnn", "Breakout": "nature_cnn"}
    policy: dict[str, Any] = {}
    if env in names:
        policy["features_extractor_class"] = getattr(sndqn.policies, names[env])
    arguments = {"buffer_size": 100, "device": "cpu", **arguments}
    return sndqn.DQN("SNMlpPolicy", vector, policy_kwargs=policy, **arguments)


def test_the_work_of_an_update_is_that_of_its_products() -> None:
    # Layers of 4 x 64, 64 x 64 and 64 x 2; forwards, and twice as much backwards.
    assert work_of_update(model("CartPole", batch_size=10)) == 3 * 10 * (4 + 64 + 2) * 64


def test_small_networks_get_one_thread_and_large_ones_torchs_number() -> None:
    small = model("CartPole", batch_size=32)
    assert work_of_update(small) < WORK_WORTH_THREADS / 5
    large = model("Breakout", batch_size=32)
    assert work_of_update(large) > WORK_WORTH_THREADS * 5
    choose_threads([small, large])
    assert torch.get_num_threads() == 2
    choose_threads([small, small])
    assert torch.get_num_threads() == 1


class World:
    """A clock, and how long a block of steps takes on so many threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.seconds = {2: 0.02, 1: 0.03}
        monkeypatch.setattr(threads.time, "perf_counter", lambda: self.now)
        self.said: list[str] = []
        self.callback = ThreadsCallback(self.said.append)
        self.callback.model = SimpleNamespace(_n_updates=1, num_timesteps=0)  # type: ignore[assignment]

    def run(self, seconds: float) -> dict[int, float]:
        """Runs blocks for so long; gives how much of it was spent on which number of threads."""
        spent = {1: 0.0, 2: 0.0}
        end = self.now + seconds
        while self.now < end:
            self.callback.on_rollout_start()
            n = torch.get_num_threads()
            spent[n] += self.seconds[n]
            self.now += self.seconds[n]
        return spent


def test_a_quiet_machine_keeps_all_threads_after_one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    assert world.run(300)[1] < 2
    assert world.said == []


def test_company_costs_seconds_and_when_it_leaves_all_threads_are_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    world.run(60)
    world.seconds = {2: 0.3, 1: 0.035}
    assert world.run(120)[2] < 30
    world.seconds = {2: 0.02, 1: 0.03}
    world.run(60)
    assert world.run(60)[1] < 2
    assert len(world.said) == 1
    assert "--threads" in world.said[0]


def test_a_training_that_begins_in_company_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.seconds = {2: 0.3, 1: 0.035}
    spent = world.run(60)
    assert spent[2] < 20
    assert torch.get_num_threads() == 1
    world.callback.on_training_end()
    assert torch.get_num_threads() == 2


def test_a_training_leaves_torch_with_the_threads_it_found(tmp_path: Path) -> None:
    few = {"total_timesteps": 60, "learning_starts": 20, "exploration_timesteps": 30}
    few |= {"eval_episodes": 1, "buffer_size": 50}
    config = make_config(
        {"env": "CartPole", "runs_dir": str(tmp_path), "tensorboard": False, **few}
    )
    train(config)
    assert torch.get_num_threads() == 2
