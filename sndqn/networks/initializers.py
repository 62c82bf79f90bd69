"""Initial weights other than torch's own."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.spectral import SpectralLayer, weight_layers

InitializerName = Literal["torch", "xavier_uniform", "variance_scaling", "orthogonal"]

# Of the initial weights of Dopamine's Rainbow and IQN.
VARIANCE_SCALE = 1 / math.sqrt(3)


@torch.no_grad()
def initialize(network: nn.Module, name: InitializerName) -> None:
    """Draws new weights for every Linear and Conv2d of a network, in place; biases become zero.

    All draws come from torch's global random state, in forward order, and are the same on every
    device and in every memory format. A convolution's fan-in is its input channels times its
    kernel's area, its fan-out its output channels times that. Of a noisy layer the means are drawn;
    the deviations stay.

    Args:
        network: Any module, its layers not yet normalised.
        name: "torch" changes nothing: U(±1/√fan_in) for weights and biases alike.
            "xavier_uniform": U(±√(6 / (fan_in + fan_out))) (Glorot and Bengio, AISTATS 2010), as in
            the code of the SN-DQN paper.
            "variance_scaling": U(±√(3s / fan_in)), of variance s / fan_in, with s = 1/√3, as in
            Dopamine's Rainbow and IQN (Castro et al., arXiv 1812.06110).
            "orthogonal": random orthonormal rows or columns, whichever are fewer, times √2, or
            times 1 in the output layer (Saxe et al., ICLR 2014, arXiv 1312.6120); a convolution's
            kernel counts as a matrix (out, in · height · width).

    Raises:
        ConfigError: Another name, or a layer whose σ would no longer be that of its weight.
    """
    if name not in get_args(InitializerName):
        names = ", ".join(get_args(InitializerName))
        raise ConfigError(f"initializer: expected one of {names}, found {name!r}")
    if name == "torch":
        return
    entries = weight_layers(network)
    normalized = [entry.name for entry in entries if isinstance(entry.layer, SpectralLayer)]
    if normalized:
        raise ConfigError(
            f"initialize: expected plain layers, found {', '.join(normalized)} under spectral "
            "normalisation: initialise first, then normalise"
        )
    for entry in entries:
        weight, bias = entry.layer.weight, entry.layer.bias
        # Drawn apart and copied, as a draw in place would depend on device and memory format.
        drawn = torch.empty(weight.shape, dtype=weight.dtype)
        _draw(drawn, name, is_output=entry.index == -1)
        weight.copy_(drawn)
        if bias is not None:
            bias.zero_()


def _draw(weight: Tensor, name: InitializerName, is_output: bool) -> None:
    if name == "xavier_uniform":
        nn.init.xavier_uniform_(weight)
    elif name == "variance_scaling":
        fan_in = weight[0].numel()
        limit = math.sqrt(3 * VARIANCE_SCALE / fan_in)
        nn.init.uniform_(weight, -limit, limit)
    else:
        nn.init.orthogonal_(weight, gain=1.0 if is_output else math.sqrt(2))
