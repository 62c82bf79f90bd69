"""Read-only measurements of a network: they never change it, nor the run it belongs to."""

from sndqn.diagnostics.norms import (
    LayerNorm,
    convolved_sizes,
    layer_norms,
    lipschitz_bound,
    quick_sigma,
    sigma_of,
)

__all__ = [
    "LayerNorm",
    "convolved_sizes",
    "layer_norms",
    "lipschitz_bound",
    "quick_sigma",
    "sigma_of",
]
