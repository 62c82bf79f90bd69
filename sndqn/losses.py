"""Losses as pure functions: one value per sample, so that a batch can be weighted."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

LossName = Literal["huber", "mse"]


def huber(prediction: Tensor, target: Tensor) -> Tensor:
    """Returns the Huber loss with threshold 1: ½ δ² up to |δ| = 1, |δ| - ½ beyond.

    The gradient of DQN's clipped error term (Mnih et al., Nature 2015, Methods).
    """
    return F.smooth_l1_loss(prediction, target, reduction="none")


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Returns the squared error δ², without the factor ½, as the SN-DQN paper's MinAtar runs."""
    return F.mse_loss(prediction, target, reduction="none")


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"huber": huber, "mse": mse}


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Returns the cross-entropy of predicted logits under target probabilities, shape (batch,).

    Args:
        logits: Shape (batch, atoms).
        target: Probabilities, shape (batch, atoms).
    """
    return -(target * logits.log_softmax(dim=1)).sum(dim=1)


def quantile_huber(
    prediction: Tensor, target: Tensor, fractions: Tensor, threshold: float = 1.0
) -> Tensor:
    """Returns the quantile Huber loss: a sum over predicted quantiles, a mean over the target's.

    Every pair has δ = target_j - prediction_i and costs |τ_i - 1[δ < 0]| L(δ) / κ, L the Huber loss
    with threshold κ.

    Args:
        prediction: Quantiles of the return, shape (batch, n).
        target: Samples or quantiles of its target, shape (batch, m).
        fractions: τ, where the quantiles are, shape (n,) or (batch, n).
        threshold: κ.

    Returns:
        Shape (batch,).

    Source: Dabney et al., AAAI 2018 (arXiv 1710.10044), equation 10, and ICML 2018 (arXiv
    1806.06923), equation 3.
    """
    error = target[:, None, :] - prediction[:, :, None]
    size = error.abs()
    huber_loss = torch.where(
        size <= threshold, 0.5 * error.square(), threshold * (size - 0.5 * threshold)
    )
    weight = (fractions[..., None] - (error.detach() < 0).to(error.dtype)).abs()
    return (weight * huber_loss / threshold).mean(dim=2).sum(dim=1)
