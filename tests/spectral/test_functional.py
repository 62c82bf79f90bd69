"""A large layer's gradient and power iteration come out alike, traced and not."""

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.spectral import SpectralLinear

aten = torch.ops.aten


def large_layer() -> SpectralLinear:
    torch.manual_seed(0)
    return SpectralLinear(512, 512).train()


def gradients(layer: SpectralLinear, x: Tensor) -> list[Tensor]:
    layer.refined_outside = True
    loss = layer(x).square().sum()
    return list(torch.autograd.grad(loss, [layer.weight, x]))


def test_a_traced_gradient_is_the_gradient() -> None:
    layer, x = large_layer(), torch.randn(32, 512, requires_grad=True)
    expected = gradients(layer, x)
    graph = make_fx(lambda x: gradients(layer, x))(x)
    for found, wanted in zip(graph(x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
