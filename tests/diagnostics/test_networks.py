"""A look at a network: what its layers put out, by hand, and nothing is as it was not before."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from torch import Tensor, nn

from sndqn.diagnostics.networks import action_values, look, observing
from sndqn.networks import make_q_network
from sndqn.networks.noisy import noisy_layers, reset_noise

GRID = spaces.Box(0, 1, (3, 10, 10), np.bool_)
ACTIONS = spaces.Discrete(4)


def grids(n: int) -> Tensor:
    draw = np.random.default_rng(0)
    return torch.from_numpy(draw.random((n, 3, 10, 10)) < 0.2)


def test_what_a_look_notes_is_what_the_layers_compute_one_by_one() -> None:
    torch.manual_seed(0)
    network = make_q_network(GRID, ACTIONS, sn_layers="none", net_arch=(8,)).eval()
    states = grids(600)  # more than pass at once
    seen = look(network, states)
    torso, head = network.features_extractor, network.q_net
    activity: dict[str, np.ndarray[Any, Any]] = {}
    features, values = [], []
    for state in states:
        maps = torso.cnn[1](torso.cnn[0](state[None].float()))
        hidden = torso.linear(maps.flatten(1))
        last = head[1](head[0](hidden))
        for name, output in (
            ("features_extractor.cnn.0", maps.abs().mean(dim=(0, 2, 3))),
            ("features_extractor.linear.0", hidden.abs()[0]),
            ("q_net.0", last.abs()[0]),
        ):
            activity[name] = activity.get(name, 0) + output.detach().double().numpy() / 600
        features.append(last)
        values.append(head[2](last))
    assert seen.activity.keys() == activity.keys()
    for name, expected in activity.items():
        np.testing.assert_allclose(seen.activity[name], expected, rtol=1e-5)
    torch.testing.assert_close(seen.features, torch.cat(features))
    torch.testing.assert_close(seen.q_values, torch.cat(values))


@pytest.mark.parametrize("head", ["linear", "categorical", "quantile", "implicit_quantile"])
@pytest.mark.parametrize("dueling", [False, True])
def test_the_features_are_what_the_output_layer_is_given(head: str, dueling: bool) -> None:
    torch.manual_seed(0)
    network = make_q_network(
        GRID, ACTIONS, head=head, dueling=dueling, net_arch=(8,), sn_layers="-2"
    ).eval()
    seen = look(network, grids(5))
    assert seen.features.shape == (5, 16 if dueling else 8)
    torch.testing.assert_close(seen.q_values, network(grids(5)).detach())


def test_in_a_residual_network_the_layers_before_an_activation_are_noted() -> None:
    space = spaces.Box(0, 255, (1, 16, 16), np.uint8)
    network = make_q_network(space, ACTIONS, torso="impala_cnn", sn_layers="none")
    seen = look(network, torch.zeros(2, 1, 16, 16, dtype=torch.uint8))
    convolutions = {n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    # The next stage begins with a convolution.
    bare = {f"features_extractor.stages.{stage}.residual.1.3" for stage in (0, 1)}
    assert set(seen.activity) == {*convolutions - bare, "features_extractor.linear.0"}


def test_an_observed_network_is_as_before_to_the_bit() -> None:
    torch.manual_seed(0)
    network = make_q_network(GRID, ACTIONS, net_arch=(8,), noisy=True, sn_layers="-3").train()
    reset_noise(noisy_layers(network))
    with torch.no_grad():  # its σ is behind: evaluation mode would find it anew
        network.features_extractor.linear[0].weight.mul_(1.5)
    before = [t.clone() for t in [*network.parameters(), *network.buffers()]]
    state, modes = torch.get_rng_state(), [m.training for m in network.modules()]
    look(network, grids(3))
    with observing(network):
        assert not any(m.training for m in network.modules())
        assert not any(layer.noise_in.any() for layer in noisy_layers(network))
    after = [*network.parameters(), *network.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in network.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_stock_networks_are_read_as_they_are() -> None:
    states = torch.randn(7, 4)
    stock = DQN("MlpPolicy", "CartPole-v1", buffer_size=10, seed=0).q_net
    torch.testing.assert_close(action_values(stock, states), stock(states).detach())
    contrib = pytest.importorskip("sb3_contrib")
    quantile = contrib.QRDQN("MlpPolicy", "CartPole-v1", buffer_size=10, seed=0).quantile_net
    expected = quantile(states).detach().mean(dim=1)
    torch.testing.assert_close(action_values(quantile, states), expected)
    assert look(quantile, states).features.shape == (7, 64)
