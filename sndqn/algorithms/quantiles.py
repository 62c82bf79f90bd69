"""What losses of quantiles share: their targets, and the quantile Huber loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sndqn import losses, targets
from sndqn.algorithms.loss import Loss, Losses, Networks
from sndqn.replay import Batch


@dataclass(frozen=True)
class QuantileLoss(Loss):
    """A loss of quantiles of the return; it is the priority too.

    Attributes:
        huber_threshold: κ of the quantile Huber loss.
    """

    huber_threshold: float

    def quantile_target(
        self, networks: Networks, batch: Batch, next_quantiles: Tensor, next_q: Tensor
    ) -> Tensor:
        """Returns the target of each next quantile, (batch, m), from (batch, actions, m)."""
        reward, discount = self.rewards_and_discounts(batch)
        if self.munchausen:
            action, q = batch.actions.long().squeeze(1), networks.target(batch.observations)
            settings = self.munchausen._asdict()
            return targets.munchausen(
                reward, discount, action, q, next_q, next_quantiles, **settings
            )
        rows = torch.arange(len(reward), device=reward.device)
        chosen = next_quantiles[rows, self.next_actions(networks, batch, next_q)]
        return targets.quantiles(reward, discount, chosen)

    def quantile_losses(
        self, batch: Batch, quantiles: Tensor, target: Tensor, fractions: Tensor
    ) -> Losses:
        """Computes the losses of the taken actions' quantiles, of (batch, actions, n)."""
        rows = torch.arange(len(target), device=target.device)
        prediction = quantiles[rows, batch.actions.long().squeeze(1)]
        values = losses.quantile_huber(prediction, target, fractions, self.huber_threshold)
        logs = {"q_mean": prediction.mean(), "q_max": quantiles.mean(dim=2).max()}
        return Losses(values, values.detach(), logs)
