"""Noisy layers: the paper's formula with its matrices written out, and when there is noise."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from sndqn.errors import ConfigError, SelectionError
from sndqn.networks import NoisyLinear, make_q_network
from sndqn.networks.noisy import noisy_layers, remove_noise, reset_noise, without_noise
from sndqn.spectral import SpectralLayer, spectral_norm

VECTOR = spaces.Box(-1, 1, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (2, 36, 36), np.uint8)
ACTIONS = spaces.Discrete(3)


def make(n_in: int = 5, n_out: int = 4) -> NoisyLinear:
    torch.manual_seed(0)
    layer = NoisyLinear(n_in, n_out)
    with torch.no_grad():  # deviations that differ, as after training
        layer.weight_sigma.normal_()
        layer.bias_sigma.normal_()
    reset_noise([layer])
    return layer


def written_out(layer: NoisyLinear, x: Tensor) -> Tensor:
    """(W + W_σ ⊙ ε_w) x + b + b_σ ⊙ ε_b, with ε_w = f(ε_out) f(ε_in)ᵀ and ε_b = f(ε_out)."""
    weight = layer.weight + layer.weight_sigma * torch.outer(layer.noise_out, layer.noise_in)
    return x @ weight.T + layer.bias + layer.bias_sigma * layer.noise_out


@pytest.mark.parametrize("shape", [(5,), (7, 5), (3, 2, 5)])
def test_it_is_the_papers_formula_and_so_are_its_gradients(shape: tuple[int, ...]) -> None:
    layer, x = make(), torch.randn(shape, requires_grad=True)
    names = ["x", *dict(layer.named_parameters())]
    inputs = [x, *layer.parameters()]
    found, expected = layer(x), written_out(layer, x)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    ours = torch.autograd.grad((found * weights).sum(), inputs)
    plain = torch.autograd.grad((expected * weights).sum(), inputs)
    assert names == ["x", "weight", "bias", "weight_sigma", "bias_sigma"]
    for name, a, b in zip(names, ours, plain, strict=True):
        assert bool(a.any()), name
        torch.testing.assert_close(a, b)


def test_without_noise_it_is_a_plain_layer_to_the_bit() -> None:
    torch.manual_seed(0)
    layer, x = NoisyLinear(5, 4), torch.randn(7, 5)
    plain = nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer(x), plain), "no noise is drawn until someone asks"
    reset_noise([layer])
    assert not torch.allclose(layer(x), plain)
    remove_noise(layer)
    assert torch.equal(layer(x), plain)


def test_first_weights_are_the_papers() -> None:
    torch.manual_seed(0)
    layer = NoisyLinear(100, 400)
    for mean in (layer.weight, layer.bias):
        assert 0.099 < float(mean.detach().abs().max()) <= 0.1  # U(±1/√100)
        assert abs(float(mean.detach().mean())) < 0.01
    for deviation in (layer.weight_sigma, layer.bias_sigma):
        assert torch.equal(deviation, torch.full_like(deviation, 0.05))  # 0.5 / √100
    assert NoisyLinear(4, 2, sigma_0=3.0).bias_sigma.tolist() == [1.5, 1.5]


def test_a_forward_pass_draws_nothing_and_a_batch_shares_its_noise() -> None:
    layer, state = make(), torch.get_rng_state()
    x = torch.randn(1, 5, generator=torch.Generator().manual_seed(0)).expand(6, 5)
    first = layer(x)
    assert torch.equal(layer(x), first)
    torch.testing.assert_close(first, first[:1].expand(6, 4))
    assert torch.equal(torch.get_rng_state(), state)


def test_new_noise_is_drawn_for_every_layer_by_itself() -> None:
    layers = [NoisyLinear(5, 5), NoisyLinear(5, 5)]
    reset_noise(layers)
    noises = [noise.clone() for layer in layers for noise in (layer.noise_in, layer.noise_out)]
    for i in range(4):
        for j in range(i):
            assert not torch.equal(noises[i], noises[j])
    reset_noise(layers)
    assert not torch.equal(layers[0].noise_in, noises[0])
    torch.manual_seed(1)
    reset_noise(layers)
    kept = layers[1].noise_out.clone()
    torch.manual_seed(1)
    reset_noise(layers)
    assert torch.equal(layers[1].noise_out, kept), "it comes from torch's random state"


def test_the_noise_has_the_law_of_sign_times_root() -> None:
    torch.manual_seed(0)
    layer = NoisyLinear(6, 5)
    vectors, products = [], []
    for _ in range(4000):
        reset_noise([layer])
        vectors.append(torch.cat([layer.noise_in, layer.noise_out]))
        products.append(torch.outer(layer.noise_out, layer.noise_in))
    noise, weight_noise = torch.stack(vectors), torch.stack(products)
    variance = math.sqrt(2 / math.pi)  # f(ε)² = |ε|, and E|ε| = √(2/π)
    assert noise.mean(dim=0).abs().max() < 0.06
    torch.testing.assert_close(noise.std(), torch.tensor(math.sqrt(variance)), rtol=0.02, atol=0)
    torch.testing.assert_close(weight_noise.std(), torch.tensor(variance), rtol=0.02, atol=0)
    # f(ε)⁴ = ε²: the fourth moment is 1, where a Gaussian of that variance had 3 · 2/π.
    assert float(noise.pow(4).mean()) == pytest.approx(1, rel=0.05)
    correlation = torch.corrcoef(noise.T) - torch.eye(11)
    assert float(correlation.abs().max()) < 0.08


@pytest.mark.parametrize("fails", [False, True])
def test_noise_left_out_for_a_while_is_there_again_afterwards(fails: bool) -> None:
    network, x = nn.Sequential(make(), nn.ReLU(), make(4, 2)), torch.randn(3, 5)
    noisy = network(x)
    try:
        with without_noise(network):
            quiet = network(x)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert torch.equal(network(x), noisy)
    remove_noise(network)
    assert torch.equal(network(x), quiet)
    assert not torch.equal(quiet, noisy)


def test_noise_is_no_part_of_a_state() -> None:
    layer, other = make(), make()
    assert list(layer.state_dict()) == ["weight", "bias", "weight_sigma", "bias_sigma"]
    reset_noise([other])
    kept = other.noise_in.clone()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.noise_in, kept)


def test_a_network_without_noisy_layers_has_no_noise_to_draw() -> None:
    network, state = nn.Linear(2, 2), torch.get_rng_state()
    reset_noise(noisy_layers(network))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("selection", ["-2", "-1", "all", "q_net.0"])
def test_a_noisy_layer_cannot_be_normalised(selection: str) -> None:
    with pytest.raises(SelectionError, match=r"q_net\.\d is a noisy layer"):
        make_q_network(VECTOR, ACTIONS, head_kwargs={"noisy": True}, sn_layers=selection)
    with pytest.raises(ConfigError, match="expected a plain Linear or Conv2d, found NoisyLinear"):
        spectral_norm(NoisyLinear(3, 2))


@pytest.mark.parametrize(
    ("space", "selection", "n_held"), [(VECTOR, "none", 0), (IMAGE, "convs", 3), (IMAGE, "-2", 1)]
)
def test_layers_before_a_noisy_head_can_be(space: Any, selection: str, n_held: int) -> None:
    network = make_q_network(space, ACTIONS, head_kwargs={"noisy": True}, sn_layers=selection)
    assert sum(isinstance(m, SpectralLayer) for m in network.modules()) == n_held
    assert noisy_layers(network)


def test_an_implicit_quantile_heads_embedding_can_be_normalised_under_noise() -> None:
    network = make_q_network(
        VECTOR, ACTIONS, head="implicit_quantile", head_kwargs={"noisy": True}, net_arch=(6,),
        sn_layers="-3",
    )  # fmt: skip
    assert isinstance(network.q_net.embedding, SpectralLayer)
    assert network(torch.zeros(2, 5)).shape == (2, 3)
