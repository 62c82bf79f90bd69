"""DQN: one Q-value per action."""

from dataclasses import dataclass
from typing import Any

import torch

from sndqn import targets
from sndqn.algorithms.base import ValueBasedAlgorithm
from sndqn.algorithms.loss import Loss, Losses, Networks
from sndqn.losses import LOSSES, LossName
from sndqn.replay import Batch


@dataclass(frozen=True)
class DQNLoss(Loss):
    """The loss of Q(s, a) against its target; priorities are |TD error|.

    Attributes:
        name: "huber" or "mse".
    """

    name: LossName

    def __call__(self, networks: Networks, batch: Batch) -> Losses:
        """Computes the losses."""
        reward, discount = self.rewards_and_discounts(batch)
        action = batch.actions.long().squeeze(1)
        with torch.no_grad():
            next_q = networks.target(batch.next_observations)
            if self.munchausen:
                q, settings = networks.target(batch.observations), self.munchausen._asdict()
                target = targets.munchausen(reward, discount, action, q, next_q, next_q, **settings)
            else:
                next_action = self.next_actions(networks, batch, next_q)
                target = targets.q_learning(reward, discount, next_q, next_action)
        q_values = networks.online(batch.observations)
        prediction = q_values.gather(1, action[:, None]).squeeze(1)
        values = LOSSES[self.name](prediction, target)
        logs = {"q_mean": prediction.mean(), "q_max": q_values.max()}
        return Losses(values, (target - prediction).detach().abs(), logs)


class DQN(ValueBasedAlgorithm):
    """Deep Q-learning: Stable-Baselines3's DQN on networks under SN, with the flags of the family.

    Args:
        *args: As `ValueBasedAlgorithm`.
        loss: "huber" or "mse".
        **kwargs: As `ValueBasedAlgorithm`.

    Source: Mnih et al., Nature 2015.
    """

    def __init__(self, *args: Any, loss: LossName = "huber", **kwargs: Any) -> None:
        self.loss: LossName = loss
        super().__init__(*args, **kwargs)

    def make_loss(self) -> DQNLoss:
        """Returns the loss of Q(s, a)."""
        return DQNLoss(*self.target_settings(), name=self.loss)
