"""IQN: quantiles of the return at random fractions for every action."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from sndqn.algorithms.base import ValueBasedAlgorithm
from sndqn.algorithms.loss import Losses, Networks
from sndqn.algorithms.quantiles import QuantileLoss
from sndqn.networks.heads import HeadName
from sndqn.replay import Batch


@dataclass(frozen=True)
class IQNLoss(QuantileLoss):
    """The quantile Huber loss at random fractions.

    Attributes:
        n_quantiles: Random fractions of the prediction, N.
        n_target_quantiles: Random fractions of the target, N'.
    """

    n_quantiles: int
    n_target_quantiles: int

    @property
    def n_random(self) -> int:
        """One fraction for each quantile of prediction and target."""
        return self.n_quantiles + self.n_target_quantiles

    def __call__(self, networks: Networks, batch: Batch) -> Losses:
        """Computes the losses."""
        online, target_network = networks
        assert batch.random is not None
        fractions = batch.random[:, : self.n_quantiles]
        drawn = batch.random[:, self.n_quantiles :]
        with torch.no_grad():
            # One pass for the target's fractions and for those of the Q-values it chooses by.
            even = online.q_net.fractions.expand(len(drawn), -1)
            both = target_network.outputs(batch.next_observations, torch.cat([drawn, even], 1))
            next_quantiles = both[..., : self.n_target_quantiles]
            next_q = both[..., self.n_target_quantiles :].mean(dim=2)
            target = self.quantile_target(networks, batch, next_quantiles, next_q)
        quantiles = online.outputs(batch.observations, fractions)
        return self.quantile_losses(batch, quantiles, target, fractions)


class IQN(ValueBasedAlgorithm):
    """Implicit quantile network.

    Q-values, to act by and to choose the target's action, are means over evenly spaced fractions;
    the paper draws those at random too.

    Args:
        *args: As `ValueBasedAlgorithm`.
        n_quantiles: Random fractions of the prediction, N.
        n_target_quantiles: Random fractions of the target, N'.
        n_acting_quantiles: Even fractions of a Q-value, K.
        n_cosines: Size of the embedding's basis.
        huber_threshold: κ of the quantile Huber loss.
        **kwargs: As `ValueBasedAlgorithm`.

    Source: Dabney et al., ICML 2018 (arXiv 1806.06923); N = N' = 64 and K = 32 are theirs. With
    `munchausen`, Vieillard et al., NeurIPS 2020 (arXiv 2007.14430).
    """

    head: ClassVar[HeadName] = "implicit_quantile"

    def __init__(
        self,
        *args: Any,
        n_quantiles: int = 64,
        n_target_quantiles: int = 64,
        n_acting_quantiles: int = 32,
        n_cosines: int = 64,
        huber_threshold: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.n_quantiles, self.n_target_quantiles = n_quantiles, n_target_quantiles
        self.n_acting_quantiles, self.n_cosines = n_acting_quantiles, n_cosines
        self.huber_threshold = huber_threshold
        super().__init__(*args, **kwargs)

    def head_kwargs(self) -> dict[str, Any]:
        """Returns the basis and the fractions to act by."""
        return {"n_cosines": self.n_cosines, "n_acting_quantiles": self.n_acting_quantiles}

    def make_loss(self) -> IQNLoss:
        """Returns the quantile Huber loss at random fractions."""
        numbers = (self.huber_threshold, self.n_quantiles, self.n_target_quantiles)
        return IQNLoss(*self.target_settings(), *numbers)
