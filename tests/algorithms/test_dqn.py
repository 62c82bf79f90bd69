"""DQN's loss, plain and double, against values worked out from the two networks."""

from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor

import sndqn
from sndqn.replay import Batch


def make(**kwargs: Any) -> sndqn.DQN:
    model = sndqn.DQN(
        "SNMlpPolicy",
        gym.make("CartPole-v1"),
        seed=0,
        device="cpu",
        buffer_size=100,
        gamma=0.9,
        **kwargs,
    )
    with torch.no_grad():  # two networks that disagree
        for parameter in model.q_net_target.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def batch(discounts: Tensor | None = None) -> Batch:
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(2, 16, 4, generator=generator)
    return Batch(
        observations=observations[0],
        actions=torch.randint(2, (16, 1), generator=generator),
        next_observations=observations[1],
        dones=(torch.arange(16) % 4 == 0).float()[:, None],
        rewards=torch.randn(16, 1, generator=generator),
        discounts=discounts,
    )


@pytest.mark.parametrize("loss", ["huber", "mse"])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("n_step", [False, True])
def test_the_loss_is_the_one_worked_out_sample_by_sample(
    double: bool, loss: Any, n_step: bool
) -> None:
    model = make(double=double, loss=loss)
    discounts = torch.linspace(0.5, 1, 16)[:, None] if n_step else None
    samples = batch(discounts)
    model.policy.set_training_mode(False)
    with torch.no_grad():
        online, target = (
            model.q_net(samples.next_observations),
            model.q_net_target(samples.next_observations),
        )
        q_values = model.q_net(samples.observations)
        found, priorities, _ = model.make_loss()(model.update.networks, samples)
    disagreements = 0
    for i in range(16):
        choice = int((online if double else target)[i].argmax())
        disagreements += int(online[i].argmax()) != int(target[i].argmax())
        gamma = float(discounts[i]) if discounts is not None else 0.9
        go_on = 1 - float(samples.dones[i])
        goal = float(samples.rewards[i]) + gamma * go_on * float(target[i, choice])
        error = abs(float(q_values[i, int(samples.actions[i])]) - goal)
        huber = 0.5 * error**2 if error < 1 else error - 0.5
        assert float(found[i]) == pytest.approx(error**2 if loss == "mse" else huber, abs=1e-5)
        assert float(priorities[i]) == pytest.approx(error, abs=1e-5)
    assert disagreements > 0, "otherwise plain and double are the same"


def test_no_gradient_reaches_the_target_network() -> None:
    model = make(double=True)
    losses = model.make_loss()(model.update.networks, batch())
    losses.values.mean().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in model.q_net_target.parameters())
    assert all(parameter.grad is not None for parameter in model.q_net.parameters())


def test_double_and_loss_survive_saving(tmp_path: Any) -> None:
    make(double=True, loss="mse").save(tmp_path / "model")
    loaded = sndqn.DQN.load(tmp_path / "model", device="cpu")
    assert (loaded.double, loaded.loss) == (True, "mse")
