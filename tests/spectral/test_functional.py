"""A large layer's gradient comes out alike, traced and not."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.spectral import SpectralConv2d, SpectralLayer, SpectralLinear


@pytest.fixture(params=["linear", "convolution"])
def layer(request: pytest.FixtureRequest) -> SpectralLayer:
    torch.manual_seed(0)
    layer: SpectralLayer
    if request.param == "linear":
        layer = SpectralLinear(512, 512)
    else:
        layer = SpectralConv2d(8, 16, 4, stride=2, input_size=(32, 32))
    layer.iterates_in_forward = False
    return layer.train()


def batch(layer: SpectralLayer) -> Tensor:
    shape = (32, *layer.running_v.shape[1:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def gradients(layer: Any, x: Tensor) -> list[Tensor]:
    loss = layer(x).square().sum()
    return list(torch.autograd.grad(loss, [layer.weight, layer.bias, x]))


def test_a_traced_gradient_is_the_gradient(layer: SpectralLayer) -> None:
    x = batch(layer)
    expected = gradients(layer, x)
    graph = make_fx(lambda x: gradients(layer, x))(x)
    for found, wanted in zip(graph(x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
