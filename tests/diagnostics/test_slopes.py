"""Slopes: against finite differences; and the certified bound, which none exceeds."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from torch import nn

from sndqn.diagnostics.networks import prepared, values_of_prepared
from sndqn.diagnostics.sigma import layer_sigma
from sndqn.diagnostics.slopes import certified_bound, slopes
from sndqn.networks import make_q_network
from sndqn.spectral.schedulers import SpectralScheduler

VECTOR = spaces.Box(-5, 5, (6,), np.float32)
IMAGE = spaces.Box(0, 255, (2, 36, 36), np.uint8)
ACTIONS = spaces.Discrete(3)


def bound_of(network: Any) -> float | None:
    sigma = layer_sigma(network)
    return certified_bound(network, {name: row["sigma_effective"] for name, row in sigma.items()})


@pytest.mark.parametrize("head", ["linear", "categorical", "quantile", "implicit_quantile"])
def test_a_slope_is_that_of_finite_differences_at_the_greedy_action(head: str) -> None:
    torch.manual_seed(0)
    network = make_q_network(VECTOR, ACTIONS, head=head, activation_fn=nn.Tanh, sn_layers="-2")
    states = torch.randn(4, 6)
    found = slopes(network, states)
    network, states = network.double().eval(), states.double()
    for state, slope in zip(states, found, strict=True):
        values = values_of_prepared(network, state[None])
        gradient = []
        for k in range(6):
            step = torch.zeros(6, dtype=torch.float64)
            step[k] = 1e-5
            up, down = (values_of_prepared(network, (state + s * step)[None]) for s in (1, -1))
            gradient.append(float((up - down).detach()[0, values.argmax()]) / 2e-5)
        assert float(slope) == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-4)


def test_the_slope_by_an_image_is_that_by_the_network_s_input_in_0_to_1() -> None:
    torch.manual_seed(0)
    network = make_q_network(IMAGE, ACTIONS, sn_layers="-2").eval()
    images = torch.randint(0, 256, (2, 2, 36, 36), dtype=torch.uint8)
    found = slopes(network, images)
    ready = prepared(network, images)
    assert float(ready.max()) <= 1
    jacobian: Any = torch.autograd.functional.jacobian(
        lambda x: values_of_prepared(network, x), ready
    )
    for index in range(2):
        action = int(network(images)[index].argmax())
        expected = jacobian[index, action, index].norm()
        assert float(found[index]) == pytest.approx(float(expected), rel=1e-4)


CHAINS: list[tuple[spaces.Space[Any], dict[str, Any]]] = [
    (VECTOR, {"net_arch": (16, 16)}),
    (VECTOR, {"net_arch": (16, 16), "sn_layers": "all"}),
    (VECTOR, {"net_arch": (16, 16), "dueling": True, "sn_layers": "all"}),
    (VECTOR, {"net_arch": (16,), "head": "categorical", "dueling": True, "sn_layers": "-1"}),
    (VECTOR, {"net_arch": (16,), "head": "quantile", "activation_fn": nn.ELU}),
    (IMAGE, {"sn_layers": "all"}),
    (IMAGE, {"sn_layers": "all", "sn_conv_norm": "kernel"}),
]


@pytest.mark.parametrize(("space", "arguments"), CHAINS)
def test_no_slope_is_above_the_certified_bound(
    space: spaces.Space[Any], arguments: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    network = make_q_network(space, ACTIONS, **arguments).eval()
    space.seed(0)
    states = torch.as_tensor(np.stack([space.sample() for _ in range(64)]))
    bound = bound_of(network)
    assert bound is not None
    largest = float(slopes(network, states).max())
    assert 0 < largest <= bound


def test_the_bound_of_a_linear_network_is_its_norm_and_reached() -> None:
    network = make_q_network(VECTOR, spaces.Discrete(1), net_arch=(), sn_layers="none")
    bound = bound_of(network)
    assert float(slopes(network, torch.zeros(1, 6))[0]) == pytest.approx(bound, rel=1e-6)


def test_a_divided_output_has_a_smaller_bound() -> None:
    arguments: dict[str, Any] = {"net_arch": (8,), "sn_layers": "-2", "sn_mode": "track"}
    torch.manual_seed(0)
    plain = make_q_network(VECTOR, ACTIONS, **arguments)
    torch.manual_seed(0)
    divided = make_q_network(VECTOR, ACTIONS, sn_scheduler="div_out", **arguments)
    assert isinstance(divided.scheduler, SpectralScheduler)
    factor = float(divided.eval().scheduler.product())
    before, after = bound_of(plain), bound_of(divided)
    assert before is not None
    assert after == pytest.approx(before / factor, rel=1e-5)


def test_networks_that_are_no_chain_have_no_bound() -> None:
    image = spaces.Box(0, 255, (1, 16, 16), np.uint8)
    for space, arguments in (
        (image, {"torso": "impala_cnn"}),
        (VECTOR, {"head": "implicit_quantile"}),
        (VECTOR, {"activation_fn": nn.GELU, "net_arch": (8,)}),
    ):
        network = make_q_network(space, ACTIONS, sn_layers="none", **arguments)
        assert bound_of(network) is None


def test_stock_networks_have_one() -> None:
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=10, seed=0)
    states = torch.randn(50, 4)
    bound = bound_of(model.q_net)
    assert bound is not None
    assert 0 < float(slopes(model.q_net, states).max()) <= bound
