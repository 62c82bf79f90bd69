"""Spectral normalisation for any `torch.nn.Module`; needs torch alone."""

from sndqn.spectral.apply import (
    normalize_layers,
    remove_spectral_norm,
    scale_layers,
    spectral_norm,
)
from sndqn.spectral.layers import SpectralConv2d, SpectralLinear
from sndqn.spectral.norms import certified_norm, exact_norm
from sndqn.spectral.selection import WeightLayer, format_selection, select_layers, weight_layers
from sndqn.spectral.spectral_layer import SpectralLayer

__all__ = [
    "SpectralConv2d",
    "SpectralLayer",
    "SpectralLinear",
    "WeightLayer",
    "certified_norm",
    "exact_norm",
    "format_selection",
    "normalize_layers",
    "remove_spectral_norm",
    "scale_layers",
    "select_layers",
    "spectral_norm",
    "weight_layers",
]
