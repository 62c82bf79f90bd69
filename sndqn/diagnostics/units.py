"""Dormant units: those that put out little beside their layer's others, or nothing."""

from collections.abc import Mapping

import torch
from torch import Tensor

# Sokar et al. have 0.025 and 0.1; at 0 a unit is dead.
THRESHOLDS = (0.0, 0.025, 0.1)

Shares = dict[str, float]


def dormant_shares(activity: Mapping[str, Tensor]) -> tuple[Shares, dict[str, Shares]]:
    """Computes the share of dormant units, of all and by layer, at each threshold τ.

    A unit's score is E|h| over the mean of its layer's, and it is dormant where that is at most τ.
    At τ = 0.1 a unit may well be of use: its output is small, not fixed.

    Args:
        activity: E|h| of each unit by layer, from `look`.

    Returns:
        "dormant_0", "dormant_0.025" and "dormant_0.1": of all layers together, and of each.

    Source: Sokar et al., ICML 2023 (arXiv 2302.12902), definition 3.1; the 1e-9 that keeps a dead
    layer's scores numbers is Dopamine's.
    """
    scores = {name: unit / (unit.mean() + 1e-9) for name, unit in activity.items()}
    layers = {name: _shares(score) for name, score in scores.items()}
    return (_shares(torch.cat(list(scores.values()))) if scores else {}), layers


def _shares(scores: Tensor) -> Shares:
    return {f"dormant_{tau:g}": float((scores <= tau).double().mean()) for tau in THRESHOLDS}
