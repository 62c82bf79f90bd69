"""Read-only measurements of a network: they never change it, nor the run it belongs to."""

from sndqn.diagnostics.networks import Look, action_values, look
from sndqn.diagnostics.norms import (
    LayerNorm,
    convolved_sizes,
    layer_norms,
    quick_sigma,
    sigma_of,
)
from sndqn.diagnostics.optimizer import eps_ratios
from sndqn.diagnostics.ranks import ranks
from sndqn.diagnostics.returns import Played, action_swaps, played_out, q_bias
from sndqn.diagnostics.sigma import layer_sigma
from sndqn.diagnostics.slopes import certified_bound, slopes
from sndqn.diagnostics.targets import gap_after_sync, target_gap
from sndqn.diagnostics.units import dormant_shares
from sndqn.diagnostics.updates import try_updates

__all__ = [
    "LayerNorm",
    "Look",
    "Played",
    "action_swaps",
    "action_values",
    "certified_bound",
    "convolved_sizes",
    "dormant_shares",
    "eps_ratios",
    "gap_after_sync",
    "layer_norms",
    "layer_sigma",
    "look",
    "played_out",
    "q_bias",
    "quick_sigma",
    "ranks",
    "sigma_of",
    "slopes",
    "target_gap",
    "try_updates",
]
