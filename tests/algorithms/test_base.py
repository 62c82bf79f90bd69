"""The shared loop: exploration, target synchronisation, agreement with the stock update."""

import ast
import copy
import inspect
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN as StockDQN
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

import sndqn
from sndqn import algorithms
from sndqn.algorithms.target_network import evaluating, sync_target
from sndqn.spectral import SpectralLayer, spectral_norm

FAST: dict[str, Any] = {"seed": 0, "device": "cpu", "buffer_size": 500, "learning_starts": 30}


def cartpoles(n_envs: int = 1) -> DummyVecEnv:
    return DummyVecEnv([lambda: gym.make("CartPole-v1")] * n_envs)


def make(n_envs: int = 1, **kwargs: Any) -> sndqn.DQN:
    return sndqn.DQN("SNMlpPolicy", cartpoles(n_envs), **{**FAST, **kwargs})


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(spectral_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 2))


def test_a_hard_sync_makes_the_networks_equal_to_the_bit() -> None:
    online, target = network(0), network(1)
    online(torch.randn(3, 6))
    sync_target(online, target)
    for name, value in online.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name
        assert target.state_dict()[name].data_ptr() != value.data_ptr()


def test_a_soft_sync_averages_weights_and_leaves_unit_vectors() -> None:
    online, target = network(0), network(1)
    expected = {
        name: 0.75 * p.detach() + 0.25 * online.get_parameter(name).detach()
        for name, p in target.named_parameters()
    }
    before = {name: value.clone() for name, value in online.state_dict().items()}
    sync_target(online, target, tau=0.25)
    for name, value in expected.items():
        torch.testing.assert_close(target.get_parameter(name).detach(), value)
    layer = target[0]
    assert isinstance(layer, SpectralLayer)
    assert float(layer.running_u[0].norm()) == pytest.approx(1, abs=1e-6)
    assert float(layer.running_v[0].norm()) == pytest.approx(1, abs=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in online.state_dict().items())


def test_soft_syncs_converge_to_the_bound() -> None:
    online, target = network(0), network(1)
    for _ in range(400):
        sync_target(online, target, tau=0.02)
    layer = target[0]
    assert isinstance(layer, SpectralLayer)
    assert layer.exact_sigma() == pytest.approx(1, rel=1e-3)


def test_a_block_in_evaluation_mode_moves_no_vector_and_gives_the_mode_back() -> None:
    online = network(0)
    before = {name: value.clone() for name, value in online.state_dict().items()}
    with evaluating(online):
        assert not online.training
        online(torch.randn(3, 6))
    assert online.training
    assert all(torch.equal(value, before[name]) for name, value in online.state_dict().items())


def test_exploration_is_decided_for_each_environment_by_its_own_coin() -> None:
    model = make(n_envs=8)
    model._setup_learn(100)
    model.exploration_rate = 0.5
    greedy, _ = model.policy.predict(model._last_obs, deterministic=True)  # type: ignore[arg-type]
    off = np.array([model._sample_action(0, n_envs=8)[0] != greedy for _ in range(400)])
    # Half explore and half of those, of two actions, differ: a quarter, in each column alone.
    assert np.all(np.abs(off.mean(axis=0) - 0.25) < 0.1)
    mixed = off.any(axis=1) & ~off.all(axis=1)
    assert mixed.mean() > 0.7, "some environments explore while others do not"
    correlation = np.corrcoef(off.T)[~np.eye(8, dtype=bool)]
    assert np.all(np.abs(correlation) < 0.25)


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0.0), (1.0, 0.5)])
def test_the_rate_of_exploration_is_the_one_asked_for(rate: float, share: float) -> None:
    model = make(n_envs=4)
    model._setup_learn(100)
    model.exploration_rate = rate
    greedy, _ = model.policy.predict(model._last_obs, deterministic=True)  # type: ignore[arg-type]
    off = np.array([model._sample_action(0, n_envs=4)[0] != greedy for _ in range(300)])
    assert off.mean() == pytest.approx(share, abs=0.07)


def test_before_learning_starts_every_action_is_random() -> None:
    model = make(n_envs=4)
    model._setup_learn(100)
    model.exploration_rate = 0.0
    drawn = np.array([model._sample_action(10, n_envs=4)[0] for _ in range(200)])
    assert drawn.mean() == pytest.approx(0.5, abs=0.1)


def test_no_gradient_is_clipped_when_no_norm_is_given() -> None:
    moved = []
    for limit in (None, 1e9):
        model = make(max_grad_norm=limit, learning_rate=1e-3)
        model.learn(80)
        moved.append(list(model.policy.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*moved, strict=True))


@pytest.mark.parametrize("max_grad_norm", [10.0, 0.01])
def test_without_sn_updates_are_those_of_the_stock_algorithm(max_grad_norm: float) -> None:
    settings = {**FAST, "max_grad_norm": max_grad_norm, "learning_rate": 1e-3}
    stock = StockDQN("MlpPolicy", cartpoles(), **settings)
    ours = make(policy_kwargs={"sn_layers": "none"}, **settings)
    stock.learn(40)
    # Copied: Adam would share its moments with the original.
    ours.set_parameters(copy.deepcopy(stock.get_parameters()))
    ours._setup_learn(40)
    ours.replay_buffer = stock.replay_buffer
    for gradient_steps in (1, 3, 4):
        for model in (stock, ours):
            np.random.seed(gradient_steps)
            model.train(gradient_steps, batch_size=16)
    for name, value in stock.q_net.named_parameters():
        torch.testing.assert_close(ours.q_net.get_parameter(name), value, rtol=1e-6, atol=1e-7)


def test_soft_updates_copy_batch_statistics_and_average_weights() -> None:
    online = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    target = copy.deepcopy(online)
    online(torch.randn(8, 3))
    with torch.no_grad():
        online[0].weight.add_(1)
    before = target[0].weight.clone()
    sync_target(online, target, 0.25)
    assert torch.equal(target[1].running_mean, online[1].running_mean)
    torch.testing.assert_close(target[0].weight, before + 0.25)


def test_an_algorithm_is_a_short_file_and_the_loop_is_written_once() -> None:
    package = Path(algorithms.__file__).parent
    for cls in (algorithms.DQN, algorithms.C51, algorithms.QRDQN, algorithms.IQN):
        assert len(Path(inspect.getfile(cls)).read_text().splitlines()) <= 110
    defined = {
        (node.name, path.name)
        for path in package.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name in ("learn", "collect_and_learn")
    }
    # Several tasks take turns, each by its own loop.
    turns = ("learn", "multi_task.py")
    assert defined == {("learn", "loop.py"), ("collect_and_learn", "loop.py"), turns}
