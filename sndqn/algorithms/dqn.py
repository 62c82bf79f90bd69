"""DQN: one Q-value per action."""

from typing import Any, ClassVar

import torch

from sndqn import targets
from sndqn.algorithms.base import Losses, ValueBasedAlgorithm
from sndqn.algorithms.target_network import evaluating
from sndqn.losses import LOSSES, LossName
from sndqn.replay import Batch


class DQN(ValueBasedAlgorithm):
    """Deep Q-learning: Stable-Baselines3's DQN on networks under SN, with the flags of the family.

    Args:
        *args: As `ValueBasedAlgorithm`.
        loss: "huber" or "mse".
        **kwargs: As `ValueBasedAlgorithm`.

    Source: Mnih et al., Nature 2015.
    """

    setting_names: ClassVar[tuple[str, ...]] = (*ValueBasedAlgorithm.setting_names, "loss")

    def __init__(self, *args: Any, loss: LossName = "huber", **kwargs: Any) -> None:
        self.loss: LossName = loss
        super().__init__(*args, **kwargs)

    def compute_losses(self, batch: Batch) -> Losses:
        """Gives the losses of Q(s, a) against its targets; priorities are |TD error|."""
        reward, discount = self.rewards_and_discounts(batch)
        action = batch.actions.long().squeeze(1)
        with torch.no_grad():
            next_q = self.q_net_target(batch.next_observations)
            if self.munchausen:
                q = self.q_net_target(batch.observations)
                settings = self.munchausen_settings
                target = targets.munchausen(reward, discount, action, q, next_q, next_q, **settings)
            elif self.double:
                with evaluating(self.q_net):
                    next_q_online = self.q_net(batch.next_observations)
                target = targets.double_q_learning(reward, discount, next_q, next_q_online)
            else:
                target = targets.q_learning(reward, discount, next_q)
        q_values = self.q_net(batch.observations)
        prediction = q_values.gather(1, action[:, None]).squeeze(1)
        values = LOSSES[self.loss](prediction, target)
        logs = {"q_mean": prediction.mean(), "q_max": q_values.max()}
        return Losses(values, (target - prediction).detach().abs(), logs)
