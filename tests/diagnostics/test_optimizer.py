"""√v̂ against ε: from moments kept by hand, one entry at a time."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sndqn.diagnostics.optimizer import eps_ratios
from sndqn.optimizers import Adam, RMSprop
from sndqn.policies import SNMlpPolicy

EPS = 1e-3


def gradients(n_steps: int) -> list[np.ndarray[Any, Any]]:
    draw = np.random.default_rng(0)
    sizes = 10.0 ** draw.uniform(-5, 0, size=(6, 5))  # around ε
    return [draw.standard_normal((6, 5)) * sizes for _ in range(n_steps)]


def trained(optimizer_class: Any, **options: Any) -> tuple[Any, nn.Parameter]:
    weight = nn.Parameter(torch.zeros(6, 5))
    optimizer = optimizer_class([weight], lr=0.01, eps=EPS, **options)
    for gradient in gradients(7):
        weight.grad = torch.from_numpy(gradient).float()
        optimizer.step()
    return optimizer, weight


def quantile(values: list[float], share: float) -> float:
    """By linear interpolation between the sorted values."""
    values = sorted(values)
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def check(row: dict[str, float], ratios: list[float]) -> None:
    for percent in (10, 50, 90):
        expected = quantile(ratios, percent / 100)
        assert row[f"eps_ratio_{percent}"] == pytest.approx(expected, rel=1e-4)
    assert row["eps_ratio_below_1"] == sum(ratio < 1 for ratio in ratios) / len(ratios)
    assert 0 < row["eps_ratio_below_1"] < 1


@pytest.mark.parametrize("optimizer_class", [Adam, torch.optim.Adam, torch.optim.AdamW])
def test_adam_s_are_those_of_moments_without_bias(optimizer_class: Any) -> None:
    optimizer, weight = trained(optimizer_class, betas=(0.8, 0.95))
    ratios, sizes = [], []
    for entry in np.ndindex(6, 5):
        m = v = 0.0
        for gradient in gradients(7):
            m = 0.8 * m + 0.2 * float(gradient[entry])
            v = 0.95 * v + 0.05 * float(gradient[entry]) ** 2
        root = math.sqrt(v / (1 - 0.95**7))
        ratios.append(root / EPS)
        sizes.append(abs(m / (1 - 0.8**7)) / (root + EPS))
    row = eps_ratios(optimizer, [("w", weight)])["w"]
    check(row, ratios)
    assert row["step_size"] == pytest.approx(sum(sizes) / 30, rel=1e-4)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop_s_are_those_of_its_variance(centered: bool, inside: bool) -> None:
    optimizer, weight = trained(RMSprop, decay=0.9, centered=centered, eps_inside_root=inside)
    ratios = []
    for entry in np.ndindex(6, 5):
        mean = square = 0.0
        for gradient in gradients(7):
            mean = 0.9 * mean + 0.1 * float(gradient[entry])
            square = 0.9 * square + 0.1 * float(gradient[entry]) ** 2
        variance = square - mean**2 if centered else square
        ratios.append(math.sqrt(max(variance, 0)) / (math.sqrt(EPS) if inside else EPS))
    row = eps_ratios(optimizer, [("w", weight)])["w"]
    check(row, ratios)
    assert "step_size" not in row


def test_torch_s_rmsprop_is_read_too() -> None:
    optimizer, weight = trained(torch.optim.RMSprop, alpha=0.9, centered=True)
    own, own_weight = trained(RMSprop, decay=0.9, centered=True)
    found = eps_ratios(optimizer, [("w", weight)])["w"]
    assert found == pytest.approx(eps_ratios(own, [("w", own_weight)])["w"], rel=1e-3)


def test_an_eps_that_a_scheduler_multiplies_counts_as_multiplied() -> None:
    import gymnasium as gym

    torch.manual_seed(0)
    env = gym.make("CartPole-v1")
    policy = SNMlpPolicy(
        env.observation_space, env.action_space, lambda _: 1e-3,
        sn_layers="all", sn_mode="track", sn_scheduler="mul_eps", optimizer_kwargs={"eps": EPS},
    )  # fmt: skip
    network: Any = policy.q_net
    network(torch.randn(8, 4)).square().sum().backward()
    policy.optimizer.step()
    weight = network.q_net[2].weight
    scheduled = eps_ratios(policy.optimizer, [("w", weight)])["w"]
    (factor,) = network.scheduler.factors([weight])
    policy.optimizer.scheduler = None  # type: ignore[attr-defined]
    plain = eps_ratios(policy.optimizer, [("w", weight)])["w"]
    assert scheduled["eps_ratio_50"] * float(factor) == pytest.approx(plain["eps_ratio_50"], 1e-4)


def test_what_has_no_moments_has_no_ratio_and_gets_no_state() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    for optimizer in (torch.optim.SGD([weight], lr=0.1), Adam([weight], lr=0.1)):
        assert eps_ratios(optimizer, [("w", weight)]) == {}
        assert not optimizer.state
