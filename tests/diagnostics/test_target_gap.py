"""The target gap: 0 right after a hard sync, and not 0 where the target is broken."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.logger import Logger
from torch.nn.utils.parametrizations import spectral_norm

import sndqn
from sndqn.diagnostics.networks import action_values
from sndqn.diagnostics.targets import gap_after_sync, synced_copy, target_gap

SMALL: dict[str, Any] = {
    "learning_starts": 50, "buffer_size": 500, "batch_size": 16, "seed": 0, "learning_rate": 3e-3,
    "target_update_interval": 1000, "train_freq": 2,
}  # fmt: skip


def learn(model: Any, n_steps: int = 300) -> Any:
    model.set_logger(Logger(None, []))
    return model.learn(n_steps)


def states() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (64, 4)).astype(np.float32))


def broken() -> DQN:
    """Stock DQN whose networks have torch's SN on the second hidden layer."""
    model = DQN("MlpPolicy", "CartPole-v1", **SMALL)
    for network in (model.q_net, model.q_net_target):
        layers: Any = network.q_net
        spectral_norm(layers[2])
    # It learns by the parameters that are there now.
    model.policy.optimizer = torch.optim.Adam(model.q_net.parameters(), lr=3e-3)
    return model


def test_the_gap_is_the_mean_of_absolute_differences() -> None:
    online, target = [[1.0, 2.0], [3.0, 5.0]], [[1.5, 2.0], [1.0, 5.5]]
    total = sum(
        abs(a - b) for row, other in zip(online, target, strict=True)
        for a, b in zip(row, other, strict=True)
    )  # fmt: skip
    assert target_gap(torch.tensor(online), torch.tensor(target)) == total / 4


@pytest.mark.parametrize(
    ("make", "policy"),
    [(DQN, "MlpPolicy"), (DQN, sndqn.SNMlpPolicy), (sndqn.DQN, "SNMlpPolicy"),
     (sndqn.C51, "SNMlpPolicy"), (sndqn.IQN, "SNMlpPolicy")],
)  # fmt: skip
def test_after_a_hard_sync_it_is_zero_and_before_it_is_not(make: Any, policy: Any) -> None:
    model = learn(make(policy, "CartPole-v1", **SMALL))
    before = [action_values(n, states()) for n in (model.q_net, model.q_net_target)]
    assert target_gap(*before) > 1e-3
    assert gap_after_sync(model, states()) == 0


def test_torch_s_spectral_norm_under_stock_dqn_leaves_a_gap() -> None:
    model = learn(broken())
    assert gap_after_sync(model, states()) > 1e-3


def test_sb3_contrib_s_is_measured_too() -> None:
    contrib = pytest.importorskip("sb3_contrib")
    from sndqn.contrib import SNMlpPolicy

    model = learn(contrib.QRDQN(SNMlpPolicy, "CartPole-v1", **SMALL))
    assert gap_after_sync(model, states()) == 0


def test_a_soft_sync_leaves_what_averaging_leaves() -> None:
    model = learn(sndqn.DQN("SNMlpPolicy", "CartPole-v1", tau=0.5, **SMALL))
    before = [action_values(n, states()) for n in (model.q_net, model.q_net_target)]
    policy = synced_copy(model)
    for name, target in policy.q_net_target.named_parameters():
        expected = (
            model.q_net.get_parameter(name) + model.q_net_target.get_parameter(name)
        ).detach() / 2
        # The copy's target had its own weights before.
        torch.testing.assert_close(target.detach(), expected)
    assert 0 < gap_after_sync(model, states()) < target_gap(*before)


def test_the_model_stays_as_it_is() -> None:
    model = learn(sndqn.DQN("SNMlpPolicy", "CartPole-v1", **SMALL))
    before = {n: t.clone() for n, t in model.policy.state_dict().items()}
    counters = (model._n_calls, model.exploration_rate, model.policy, model.q_net_target)
    gap_after_sync(model, states())
    assert counters == (model._n_calls, model.exploration_rate, model.policy, model.q_net_target)
    assert all(torch.equal(t, before[n]) for n, t in model.policy.state_dict().items())
    assert model.q_net_target is model.policy.q_net_target
