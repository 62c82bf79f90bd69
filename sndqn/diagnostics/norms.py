"""σ of every weight layer of a network, and the bound that the product of them gives."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import nn

from sndqn.networks.factory import zero_observation
from sndqn.spectral import SpectralLayer, exact_norm, weight_layers
from sndqn.spectral.apply import input_sizes
from sndqn.spectral.norms import Pair, convolution_map, matrix_map, top_singular_vectors
from sndqn.spectral.spectral_layer import ConvNorm

# Of the vectors that a search for σ keeps, twice while it combines them.
_MAX_SEARCH_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class LayerNorm:
    """One line of a network's table of norms.

    Attributes:
        index: Position from the end; -1 is the output.
        name: Dotted name.
        kind: "Linear" or "Conv2d".
        shape: Of the weight.
        raw: σ of the weight as stored.
        effective: σ of the layer as it acts; equal to `raw` where nothing is normalised.
        bound: The value σ is held to; None where nothing is normalised.
        mode: "normalize", "shrink" or "track"; None where nothing is normalised.
    """

    index: int
    name: str
    kind: str
    shape: tuple[int, ...]
    raw: float
    effective: float
    bound: float | None
    mode: str | None


def layer_norms(
    network: nn.Module, observation_space: spaces.Space[Any], *, exact: bool = False
) -> list[LayerNorm]:
    """Measures σ of every weight layer of a Q-network, a convolution's as an operator.

    Args:
        network: A Q-network.
        observation_space: Its observations, for the convolutions' input sizes.
        exact: To rounding in float64 (seconds for a Nature CNN) instead of to about 1e-3.
    """
    sizes = convolved_sizes(network, observation_space)
    rows = []
    for entry in weight_layers(network):
        layer = entry.layer
        held = layer if isinstance(layer, SpectralLayer) else None
        raw = sigma_of(layer, sizes, rtol=None if exact else 1e-4)
        rows.append(
            LayerNorm(
                index=entry.index,
                name=entry.name,
                kind="Conv2d" if isinstance(layer, nn.Conv2d) else "Linear",
                shape=tuple(layer.weight.shape),
                raw=raw,
                effective=raw * float(held.scale * held.output_scale) if held else raw,
                bound=float(held.bound) if held else None,
                mode=held.mode if held else None,
            )
        )
    return rows


def convolved_sizes(
    network: nn.Module, observation_space: spaces.Space[Any]
) -> dict[nn.Module, Pair]:
    """Finds the height and width of what each convolution of a Q-network sees, on its device."""
    device = next(network.parameters()).device
    zeros = zero_observation(observation_space)
    if isinstance(zeros, dict):
        zeros = {key: part.to(device) for key, part in zeros.items()}
    else:
        zeros = zeros.to(device)
    return input_sizes(network, zeros)


@torch.no_grad()
def quick_sigma(
    layer: nn.Linear | nn.Conv2d, sizes: dict[nn.Module, Pair], conv_norm: ConvNorm
) -> float:
    """Estimates σ of a plain layer's weight in milliseconds, for a record of metrics.

    It draws nothing, and the layer stays as it is.

    Args:
        layer: The layer.
        sizes: From `convolved_sizes`.
        conv_norm: "operator" or "kernel", as of the layers under SN.

    Returns:
        σ: of a matrix to float32's rounding, of an operator to within some 0.5 %, never above;
        NaN where the weight is not finite.
    """
    weight = layer.weight.detach().cpu()
    if not bool(torch.isfinite(weight).all()):
        return math.nan
    geometry = operator_geometry(layer, sizes) if conv_norm == "operator" else {}
    if geometry:
        operator = convolution_map(weight, **geometry)
        return float(top_singular_vectors(operator, weight, max_iterations=12)[2])
    matrix = weight.flatten(1)
    matrix = matrix if matrix.shape[0] < matrix.shape[1] else matrix.t()
    return math.sqrt(max(float(torch.linalg.eigvalsh(matrix @ matrix.t())[-1]), 0.0))


def operator_geometry(
    layer: nn.Linear | nn.Conv2d, sizes: Mapping[nn.Module, Pair]
) -> dict[str, Any]:
    """Returns what `convolution_map` needs besides the weight; {} for what is no convolution.

    Nor is one that pads by anything but zeros: its weight is read as a matrix.
    """
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros":
        return {}
    return {
        "input_size": sizes[layer],
        "stride": layer.stride,
        "padding": layer.padding if isinstance(layer.padding, tuple) else (0, 0),
        "dilation": layer.dilation,
        "groups": layer.groups,
    }


def sigma_of(
    layer: nn.Linear | nn.Conv2d | SpectralLayer,
    sizes: Mapping[nn.Module, Pair] | None = None,
    *,
    rtol: float | None = None,
) -> float:
    """Computes σ of a layer's weight: by the layer's own norm if it has one, else as it acts.

    Args:
        layer: The layer.
        sizes: From `convolved_sizes`; a layer with spectral normalisation knows its own.
        rtol: Where the search for σ may stop, never above it; None computes it to rounding.
    """
    weight = layer.weight.detach()
    if isinstance(layer, SpectralLayer):
        geometry = layer.norm_arguments()
    else:
        geometry = operator_geometry(layer, sizes or {})
    if rtol is None:
        return exact_norm(weight, **geometry)
    linear_map = convolution_map(weight, **geometry) if geometry else matrix_map(weight)
    size = math.prod(linear_map.in_shape) + math.prod(linear_map.out_shape)
    rounds = max(8, min(100, _MAX_SEARCH_BYTES // (8 * size)))
    return float(top_singular_vectors(linear_map, weight, rtol=rtol, max_iterations=rounds)[2])
