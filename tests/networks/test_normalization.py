"""Layer and batch normalisation: where it stands, what it computes, what it leaves alone."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from sndqn.errors import ConfigError
from sndqn.networks import MinAtarCNN, NetworkSpec, make_q_network
from sndqn.networks.extractors import TORSOS
from sndqn.networks.heads import HEADS
from sndqn.networks.normalization import BatchNorm, activated
from sndqn.spectral import SpectralLayer, weight_layers

VECTOR = spaces.Box(-1, 1, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (2, 36, 36), np.uint8)
ACTIONS = spaces.Discrete(3)
NORMS = (nn.LayerNorm, nn.GroupNorm, BatchNorm)
OURS = [name for name in TORSOS if name != "combined"]


def space_of(torso: str) -> spaces.Box:
    return VECTOR if torso == "mlp" else IMAGE


def batch_of(space: spaces.Box, n: int = 6) -> torch.Tensor:
    space.seed(0)
    return torch.as_tensor(np.stack([space.sample() for _ in range(n)]))


def made(torso: str, normalization: Any, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    arguments = {"sn_layers": "none", "net_arch": (8,), **kwargs}
    return make_q_network(
        space_of(torso), ACTIONS, torso=torso, normalization=normalization, **arguments
    )


@pytest.mark.parametrize("normalization", ["layer", "batch"])
@pytest.mark.parametrize("torso", OURS)
@pytest.mark.parametrize("head", HEADS)
def test_every_hidden_layer_and_convolution_has_it_and_no_output_nor_embedding(
    head: str, torso: str, normalization: str
) -> None:
    network = made(torso, normalization, head=head, head_kwargs={"dueling": True})
    order = [m for m in network.modules() if isinstance(m, (*NORMS, nn.Linear, nn.Conv2d))]
    followed = [b for a, b in zip(order, [*order[1:], None], strict=True) if a not in NORMS]
    bare = {entry.layer for entry in weight_layers(network) if entry.index == -1}
    bare |= {network.q_net.embedding} if head == "implicit_quantile" else set()
    for layer, following in zip(order, followed, strict=True):
        if not isinstance(layer, NORMS):
            assert isinstance(following, NORMS) == (layer not in bare)
    assert bool(torch.isfinite(network(batch_of(space_of(torso)))).all())


@pytest.mark.parametrize("normalization", ["layer", "batch"])
@pytest.mark.parametrize("torso", OURS)
def test_layers_have_the_names_indices_and_first_weights_of_the_network_without(
    torso: str, normalization: str
) -> None:
    plain, other = made(torso, "none"), made(torso, normalization)
    before, now = weight_layers(plain), weight_layers(other)
    assert [(e.name, e.index) for e in before] == [(e.name, e.index) for e in now]
    assert all(map(torch.equal, *([e.layer.weight for e in es] for es in (before, now))))


def test_layer_normalisation_is_that_of_all_outputs_of_a_sample() -> None:
    torso = MinAtarCNN((4, 10, 10), normalization="layer").train()
    x = torch.rand(3, 4, 10, 10)
    outputs = torso.cnn[0](x)
    flat = outputs.flatten(1)
    deviation = (flat.var(dim=1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = ((flat - flat.mean(dim=1, keepdim=True)) / deviation).relu()
    torch.testing.assert_close(torso.cnn(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 5), (8, 4, 5)])
def test_batch_normalisation_is_by_the_batch_in_training_and_by_running_means_after(
    shape: tuple[int, ...],
) -> None:
    layer, x = BatchNorm(5), torch.randn(shape) * 3 + 1
    rows = x.reshape(-1, 5)
    mean, variance = rows.mean(dim=0), rows.var(dim=0, unbiased=False)
    expected = (x - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.running_mean, 0.1 * mean)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * rows.var(dim=0))
    layer.eval()
    expected = (x - layer.running_mean) / (layer.running_var + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_making_a_network_counts_no_batch() -> None:
    network = made("nature_cnn", "batch")
    for layer in network.modules():
        if isinstance(layer, BatchNorm):
            assert torch.equal(layer.running_mean, torch.zeros(layer.num_features))
            assert torch.equal(layer.running_var, torch.ones(layer.num_features))


@pytest.mark.parametrize("normalization", ["layer", "batch"])
def test_spectral_normalisation_holds_the_same_layers_beside_it(normalization: str) -> None:
    network = made("minatar_cnn", normalization, sn_layers="all", sn_bound=0.5)
    held = [m for m in network.modules() if isinstance(m, SpectralLayer)]
    assert len(held) == len(weight_layers(network)) == 4
    assert all(m.exact_sigma() == pytest.approx(0.5, rel=1e-3) for m in held)


def test_without_it_nothing_is_added() -> None:
    relu = nn.ReLU()
    assert activated(relu, 4, "none") is relu
    assert NetworkSpec().normalization == "none"


@pytest.mark.parametrize(
    ("torso", "message"),
    [
        ("combined", "expected a torso of sndqn's .*, found combined"),
        (MinAtarCNN((2, 36, 36)), "expected a torso by name, found a module"),
        ("minatar_cnn", "expected one of none, layer, batch, found 'group'"),
    ],
)
def test_what_cannot_be_is_refused(torso: Any, message: str) -> None:
    name = "group" if torso == "minatar_cnn" else "layer"
    space: Any = spaces.Dict({"a": VECTOR}) if torso == "combined" else IMAGE
    with pytest.raises(ConfigError, match=message):
        make_q_network(space, ACTIONS, torso=torso, normalization=name)
