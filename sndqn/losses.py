"""Losses as pure functions: one value per sample, so that a batch can be weighted."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

LossName = Literal["huber", "mse"]


def huber(prediction: Tensor, target: Tensor) -> Tensor:
    """Gives the Huber loss with threshold 1: ½ δ² up to |δ| = 1, |δ| - ½ beyond.

    The gradient of DQN's clipped error term (Mnih et al., Nature 2015, Methods).
    """
    return F.smooth_l1_loss(prediction, target, reduction="none")


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Gives the squared error δ², without the factor ½, as the SN-DQN paper's MinAtar runs."""
    return F.mse_loss(prediction, target, reduction="none")


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"huber": huber, "mse": mse}
