"""DQN's loss, plain and double, against values worked out from the two networks."""

import copy
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor

import sndqn
from sndqn.replay import Batch
from sndqn.spectral import SpectralLayer


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
        found, priorities, _ = model.compute_losses(samples)
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


@pytest.mark.parametrize("double", [False, True])
def test_a_loss_moves_no_vector_and_an_optimiser_step_refines_once(double: bool) -> None:
    model, samples = make(double=double), batch()
    layers = [m for m in model.q_net.modules() if isinstance(m, SpectralLayer)]
    start = {name: value.clone() for name, value in model.q_net.state_dict().items()}
    gradients, _, _ = model.update(samples)
    for name, value in model.q_net.state_dict().items():
        assert torch.equal(value, start[name]), name
    model.apply_gradients(gradients)
    for layer in layers:
        twin = copy.deepcopy(layer)
        prefix = next(n for n, m in model.q_net.named_modules() if m is layer)
        for name in ("running_u", "running_v", "running_sigma"):
            getattr(twin, name).copy_(start[f"{prefix}.{name}"])
        with torch.no_grad():
            twin.weight.copy_(start[f"{prefix}.weight"])
        twin.train()(torch.zeros(1, twin.weight.shape[1]))  # where the iteration begins
        with torch.no_grad():
            twin.weight.copy_(layer.weight)
        twin.refine()
        for name in ("running_u", "running_v", "running_sigma"):
            assert torch.equal(getattr(twin, name), getattr(layer, name)), name
        assert not torch.equal(layer.running_v, start[f"{prefix}.running_v"])


def test_no_gradient_reaches_the_target_network() -> None:
    model = make(double=True)
    losses = model.compute_losses(batch())
    losses.values.mean().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in model.q_net_target.parameters())
    assert all(parameter.grad is not None for parameter in model.q_net.parameters())


def test_logged_values_are_detached() -> None:
    _, priorities, logs = make().update(batch())
    assert logs.keys() == {"loss", "q_mean", "q_max", "grad_norm"}
    assert not priorities.requires_grad
    assert not any(value.requires_grad for value in logs.values())


def test_double_and_loss_survive_saving(tmp_path: Any) -> None:
    make(double=True, loss="mse").save(tmp_path / "model")
    loaded = sndqn.DQN.load(tmp_path / "model", device="cpu")
    assert (loaded.double, loaded.loss) == (True, "mse")
