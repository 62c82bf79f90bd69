"""σ raw, as it acts, and its lag: against the SVD of operators written as matrices."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from sndqn.diagnostics import convolved_sizes
from sndqn.diagnostics.sigma import layer_sigma, raw_weight
from sndqn.networks import make_q_network
from sndqn.spectral import weight_layers

IMAGE = spaces.Box(0, 255, (2, 7, 7), np.uint8)


def operator_norm(layer: Any, size: tuple[int, int] | None, weight: torch.Tensor) -> float:
    """The largest singular value of the layer's matrix, column by column from one-hot inputs."""
    weight = weight.detach().double()
    if size is None:
        return float(np.linalg.svd(weight.flatten(1).numpy(), compute_uv=False)[0])
    n = weight.shape[1] * size[0] * size[1]
    inputs = torch.eye(n, dtype=torch.float64).view(n, weight.shape[1], *size)
    columns = nn.functional.conv2d(inputs, weight, None, layer.stride, layer.padding)
    return float(np.linalg.svd(columns.flatten(1).numpy(), compute_uv=False)[0])


@pytest.mark.parametrize("conv_norm", ["operator", "kernel"])
def test_each_norm_is_that_of_the_svd_while_sigma_lags(conv_norm: str) -> None:
    torch.manual_seed(0)
    network: Any = make_q_network(
        IMAGE, spaces.Discrete(3), torso="minatar_cnn", sn_layers="-2,-3", sn_bound=2.0,
        torso_kwargs={"channels": (3, 4), "features_dim": 16}, sn_conv_norm=conv_norm,
    )  # fmt: skip
    network.eval()
    for layer in network.modules():
        if hasattr(layer, "trusts_sigma"):
            layer.trusts_sigma = True
            with torch.no_grad():  # as after a step that σ did not follow
                layer.weight.mul_(1.25)
    sizes = convolved_sizes(network, IMAGE)
    found = layer_sigma(network)
    for entry in weight_layers(network):
        layer, row = entry.layer, found[entry.name]
        size = sizes.get(layer)
        raw = operator_norm(layer, size, layer.weight)
        assert row["sigma_raw"] == pytest.approx(raw, rel=2e-4)
        if entry.index not in (-2, -3):
            assert row == {"sigma_raw": row["sigma_raw"], "sigma_effective": row["sigma_raw"]}
            continue
        acts = operator_norm(layer, size, layer.effective_weight)
        assert row["sigma_effective"] == pytest.approx(acts, rel=2e-4)
        assert row["sigma_lag"] == pytest.approx(1.25, rel=5e-3)


def test_torch_s_spectral_norm_is_read_too() -> None:
    torch.manual_seed(0)
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=10, seed=0)
    network: Any = model.q_net
    spectral_norm(network.q_net[2], n_power_iterations=30)
    network.eval()
    with torch.no_grad():
        raw_weight(network.q_net[2]).mul_(3.0)
        raw_weight(network.q_net[2])[0].mul_(2.0)  # its vectors do not know
    row = layer_sigma(network)["q_net.2"]
    raw = operator_norm(None, None, raw_weight(network.q_net[2]))
    effective = operator_norm(None, None, network.q_net[2].weight)
    assert row["sigma_raw"] == pytest.approx(raw)
    assert row["sigma_effective"] == pytest.approx(effective)
    assert row["sigma_lag"] == pytest.approx(effective)
    assert effective > 1.0001


def test_measuring_moves_nothing() -> None:
    torch.manual_seed(0)
    network = make_q_network(IMAGE, spaces.Discrete(3), torso="minatar_cnn", sn_layers="all")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.3)  # in evaluation mode σ would be found anew
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    layer_sigma(network)
    after = network.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert torch.equal(torch.get_rng_state(), state)
