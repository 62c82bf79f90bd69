"""σ of every weight layer at an instant of training: raw, as it acts, and how far SN's lags."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sndqn.diagnostics.networks import observing
from sndqn.diagnostics.norms import convolved_sizes, operator_geometry
from sndqn.spectral import SpectralLayer, exact_norm, weight_layers
from sndqn.spectral.norms import convolution_map, top_singular_vectors

# Of a search for a convolution's σ, which stops below it by that much at most, relatively.
_RTOL = 1e-4


def raw_weight(layer: nn.Module) -> Tensor:
    """Returns the weight of a layer that training moves; torch's SN keeps it as `original`."""
    if parametrize.is_parametrized(layer, "weight"):
        weights: Any = layer.parametrizations
        original: Tensor = weights["weight"].original
        return original
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight


@torch.no_grad()
def layer_sigma(network: Any) -> dict[str, dict[str, float]]:
    """Measures every weight layer, in float64: a matrix to rounding, a convolution to 1e-4.

    Args:
        network: A Q-network, with its `observation_space`; it stays as it is.

    Returns:
        By name of the layer:

        - sigma_raw: σ of the weight that training moves, a convolution's as an operator;
        - sigma_effective: σ of the layer as it acts;
        - sigma_lag: σ over the σ that SN divides by, in the norm that SN divides by. Above 1 the
          layer is above its bound by so much. Of layers without SN there is none.
    """
    found = {}
    with observing(network):
        sizes = convolved_sizes(network, network.observation_space)
        for entry in weight_layers(network):
            layer: Any = entry.layer
            own = layer.norm_arguments() if isinstance(layer, SpectralLayer) else {}
            geometry = own or operator_geometry(layer, sizes)
            raw = _norm(raw_weight(layer), geometry)
            row = {"sigma_raw": raw, "sigma_effective": raw}
            if isinstance(layer, SpectralLayer):
                row["sigma_effective"] = raw * float(layer.scale * layer.output_scale)
                true = raw if own == geometry else _norm(layer.weight, own)
                row["sigma_lag"] = _ratio(true, float(layer.sigma))
            elif parametrize.is_parametrized(layer, "weight"):
                row["sigma_effective"] = _norm(layer.weight, geometry)
                # torch's norm is the matrix's, and it makes that 1 if its σ is right.
                row["sigma_lag"] = _norm(layer.weight, {})
            found[entry.name] = row
    return found


def _norm(weight: Tensor, geometry: Mapping[str, Any]) -> float:
    weight = weight.detach().cpu()  # not every device has float64
    if not geometry:
        return exact_norm(weight)
    kernel = weight.double()
    operator = convolution_map(kernel, **geometry)
    return float(top_singular_vectors(operator, kernel, rtol=_RTOL)[2])


def _ratio(true: float, tracked: float) -> float:
    return true / tracked if tracked > 0 else math.nan
