"""QR-DQN: evenly spaced quantiles of the return for every action."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from sndqn.algorithms.base import ValueBasedAlgorithm
from sndqn.algorithms.loss import Losses, Networks
from sndqn.algorithms.quantiles import QuantileLoss
from sndqn.networks.heads import HeadName
from sndqn.replay import Batch


@dataclass(frozen=True)
class QRDQNLoss(QuantileLoss):
    """The quantile Huber loss at the head's fractions."""

    def __call__(self, networks: Networks, batch: Batch) -> Losses:
        """Computes the losses."""
        online, target_network = networks
        with torch.no_grad():
            next_quantiles = target_network.outputs(batch.next_observations)
            next_q = next_quantiles.mean(dim=2)
            target = self.quantile_target(networks, batch, next_quantiles, next_q)
        quantiles = online.outputs(batch.observations)
        return self.quantile_losses(batch, quantiles, target, online.q_net.fractions)


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

    def __init__(
        self, *args: Any, n_quantiles: int = 200, huber_threshold: float = 1.0, **kwargs: Any
    ) -> None:
        self.n_quantiles, self.huber_threshold = n_quantiles, huber_threshold
        super().__init__(*args, **kwargs)

    def head_kwargs(self) -> dict[str, Any]:
        """Returns the number of quantiles."""
        return {"n_quantiles": self.n_quantiles}

    def make_loss(self) -> QRDQNLoss:
        """Returns the quantile Huber loss."""
        return QRDQNLoss(*self.target_settings(), huber_threshold=self.huber_threshold)
