"""A large layer's gradient and power iteration come out alike, traced and not."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.spectral import SpectralConv2d, SpectralLayer, SpectralLinear

aten = torch.ops.aten


@pytest.fixture(params=["linear", "convolution"])
def layer(request: pytest.FixtureRequest) -> SpectralLayer:
    torch.manual_seed(0)
    layer: SpectralLayer
    if request.param == "linear":
        layer = SpectralLinear(512, 512)
    else:
        layer = SpectralConv2d(8, 16, 4, stride=2, input_size=(32, 32))
    layer.refined_outside = True
    return layer.train()


def batch(layer: SpectralLayer) -> Tensor:
    shape = (32, *layer.running_v.shape[1:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def gradients(layer: Any, x: Tensor) -> list[Tensor]:
    loss = layer(x).square().sum()
    return list(torch.autograd.grad(loss, [layer.weight, layer.bias, x]))


@pytest.mark.parametrize("begins_beside", [False, True])
def test_a_traced_gradient_is_the_gradient(layer: SpectralLayer, begins_beside: bool) -> None:
    layer.begins_beside = begins_beside
    x = batch(layer)
    expected = gradients(layer, x)
    graph = make_fx(lambda x: gradients(layer, x))(x)
    for found, wanted in zip(graph(x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_traced_a_batch_and_what_begins_beside_it_are_one_product(layer: SpectralLayer) -> None:
    layer.begins_beside = True

    def update(x: Tensor) -> list[Tensor]:
        result = gradients(layer, x)
        layer.refine()
        top = layer.running_u[0].abs(), layer.running_v[0].abs()  # theirs up to a sign
        return [*result, *top, layer.running_sigma.clone()]

    x, n_vectors, start = batch(layer), len(layer.running_v), copy.deepcopy(layer.state_dict())
    with torch.no_grad():
        layer.weight.add_(torch.randn_like(layer.weight) / 20)
    graph = make_fx(update)(x)
    nodes = [
        n for n in graph.graph.nodes if n.target in (aten.mm.default, aten.convolution.default)
    ]
    products = [n.meta["val"] for n in nodes]
    lengths = [len(product) for product in products if product.numel() > n_vectors**2]
    assert lengths[0] == 32 + n_vectors
    assert lengths.count(n_vectors) == 1, "their images' way back, after the step"
    results = []
    for function in (graph, update):
        for name, value in start.items():
            if name.startswith("running"):
                layer.get_buffer(name).copy_(value)
        with torch.set_grad_enabled(function is update):
            results.append(function(x))
    for found, expected in zip(*results, strict=True):
        size = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * size)
    assert not torch.equal(layer.running_u, start["running_u"])
