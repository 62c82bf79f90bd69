"""QR-DQN: evenly spaced quantiles of the return for every action."""

from typing import Any, ClassVar

import torch

from sndqn import losses, targets
from sndqn.algorithms.base import Losses, ValueBasedAlgorithm
from sndqn.networks.heads import HeadName
from sndqn.replay import Batch


class QRDQN(ValueBasedAlgorithm):
    """Quantile regression DQN.

    Args:
        *args: As `ValueBasedAlgorithm`.
        n_quantiles: How many quantiles.
        huber_threshold: κ of the quantile Huber loss.
        **kwargs: As `ValueBasedAlgorithm`.

    Source: Dabney et al., AAAI 2018 (arXiv 1710.10044); with `munchausen`, as M-IQN in Vieillard et
    al., NeurIPS 2020 (arXiv 2007.14430).
    """

    head: ClassVar[HeadName] = "quantile"
    setting_names: ClassVar[tuple[str, ...]] = (
        *ValueBasedAlgorithm.setting_names,
        "huber_threshold",
    )

    def __init__(
        self, *args: Any, n_quantiles: int = 200, huber_threshold: float = 1.0, **kwargs: Any
    ) -> None:
        self.n_quantiles, self.huber_threshold = n_quantiles, huber_threshold
        super().__init__(*args, **kwargs)

    def head_kwargs(self) -> dict[str, Any]:
        """Gives the number of quantiles."""
        return {"n_quantiles": self.n_quantiles}

    def compute_losses(self, batch: Batch) -> Losses:
        """Gives the quantile Huber losses; they are the priorities too."""
        online: Any = self.q_net
        target_network: Any = self.q_net_target
        with torch.no_grad():
            next_quantiles = target_network.outputs(batch.next_observations)
            target = self.quantile_target(batch, next_quantiles, next_quantiles.mean(dim=2))
        quantiles = online.outputs(batch.observations)
        return self.quantile_losses(batch, quantiles, target, online.q_net.fractions)

    def quantile_target(
        self, batch: Batch, next_quantiles: torch.Tensor, next_q: torch.Tensor
    ) -> torch.Tensor:
        """Gives the target of each next quantile, (batch, m), from (batch, actions, m)."""
        reward, discount = self.rewards_and_discounts(batch)
        if self.munchausen:
            action, q = batch.actions.long().squeeze(1), self.q_net_target(batch.observations)
            settings = self.munchausen_settings
            return targets.munchausen(
                reward, discount, action, q, next_q, next_quantiles, **settings
            )
        rows = torch.arange(len(reward), device=reward.device)
        chosen = next_quantiles[rows, self.next_actions(batch, next_q)]
        return targets.quantiles(reward, discount, chosen)

    def quantile_losses(
        self, batch: Batch, quantiles: torch.Tensor, target: torch.Tensor, fractions: torch.Tensor
    ) -> Losses:
        """Gives the losses of the taken actions' quantiles, of (batch, actions, n)."""
        rows = torch.arange(len(target), device=target.device)
        prediction = quantiles[rows, batch.actions.long().squeeze(1)]
        values = losses.quantile_huber(prediction, target, fractions, self.huber_threshold)
        logs = {"q_mean": prediction.mean(), "q_max": quantiles.mean(dim=2).max()}
        return Losses(values, values.detach(), logs)
