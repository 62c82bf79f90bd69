"""Noisy linear layers: exploration by noise on the weights instead of random actions."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NoisyLinear(nn.Linear):
    """A linear layer with factorised Gaussian noise of learnt size on weights and biases.

    y = (W + W_σ ⊙ f(ε_out) f(ε_in)ᵀ) x + b + b_σ ⊙ f(ε_out), with f(ε) = sign(ε) √|ε|. The noise is
    drawn by `reset_noise`, never by a forward pass, and is zero until then: a network that is not
    trained computes with the mean weights. It is not part of a state dict.

    Args:
        in_features: As in `torch.nn.Linear`.
        out_features: As in `torch.nn.Linear`.
        sigma_0: Initial size of the noise; its deviations start at sigma_0 / √in_features.

    Attributes:
        noise_in: f(ε_in), shape (in_features,).
        noise_out: f(ε_out), shape (out_features,).

    Source: Fortunato et al., ICLR 2018 (arXiv 1706.10295), equations 9 to 11; 0.5 is theirs.
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, in_features: int, out_features: int, sigma_0: float = 0.5) -> None:
        super().__init__(in_features, out_features)  # torch's U(±1/√in) is the paper's
        size = sigma_0 / math.sqrt(in_features)
        self.weight_sigma = nn.Parameter(torch.full_like(self.weight, size))
        self.bias_sigma = nn.Parameter(torch.full_like(self.bias, size))
        self.register_buffer("noise_in", torch.zeros(in_features), persistent=False)
        self.register_buffer("noise_out", torch.zeros(out_features), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer; x of shape (..., in), the result (..., out)."""
        # The noise is of rank one: scaling inputs and outputs spares writing it as a matrix.
        noisy = F.linear(x * self.noise_in, self.weight_sigma, self.bias_sigma)
        return torch.addcmul(F.linear(x, self.weight, self.bias), noisy, self.noise_out)


def noisy_layers(network: nn.Module) -> list[NoisyLinear]:
    """Lists the noisy layers of a network."""
    return [m for m in network.modules() if isinstance(m, NoisyLinear)]


@torch.no_grad()
def reset_noise(layers: list[NoisyLinear]) -> None:
    """Draws new noise for some layers, from torch's random state."""
    buffers = [noise for layer in layers for noise in (layer.noise_in, layer.noise_out)]
    if not buffers:
        return
    sizes = [len(buffer) for buffer in buffers]
    drawn = torch.randn(sum(sizes), device=buffers[0].device)
    noise = torch.split(drawn.sign() * drawn.abs().sqrt(), sizes)
    torch._foreach_copy_(buffers, list(noise))


@torch.no_grad()
def remove_noise(network: nn.Module) -> None:
    """Sets the noise of a network to zero."""
    for layer in noisy_layers(network):
        layer.noise_in.zero_()
        layer.noise_out.zero_()


@contextmanager
def without_noise(network: nn.Module) -> Iterator[None]:
    """Runs a block with the mean weights; the noise is there again afterwards."""
    buffers = [n for layer in noisy_layers(network) for n in (layer.noise_in, layer.noise_out)]
    kept = [buffer.clone() for buffer in buffers]
    remove_noise(network)
    try:
        yield
    finally:
        for buffer, noise in zip(buffers, kept, strict=True):
            buffer.copy_(noise)
