"""DQN and double DQN."""

from typing import Any

import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from sndqn import targets
from sndqn.algorithms.base import ValueBasedAlgorithm, evaluating
from sndqn.losses import LOSSES, LossName


class DQN(ValueBasedAlgorithm):
    """Deep Q-learning: Stable-Baselines3's DQN, and its double variant, on networks under SN.

    Args:
        *args: As Stable-Baselines3's `DQN`; policies also "SNMlpPolicy", "SNCnnPolicy",
            "SNMultiInputPolicy" by name.
        double: Whether the online network chooses the action that the target network values.
        loss: "huber" or "mse".
        **kwargs: As Stable-Baselines3's `DQN`; `max_grad_norm` may be None.

    Source: Mnih et al., Nature 2015; van Hasselt et al., AAAI 2016 (arXiv 1509.06461).
    """

    def __init__(
        self, *args: Any, double: bool = False, loss: LossName = "huber", **kwargs: Any
    ) -> None:
        self.double = double
        self.loss: LossName = loss
        super().__init__(*args, **kwargs)

    def compute_loss(self, batch: ReplayBufferSamples) -> tuple[Tensor, dict[str, Tensor]]:
        """Gives the mean loss of Q(s, a) against its target."""
        reward, done = batch.rewards.flatten(), batch.dones.flatten()
        gamma = self.gamma if batch.discounts is None else batch.discounts.flatten()
        discount = (1 - done) * gamma
        with torch.no_grad():
            next_q_target = self.q_net_target(batch.next_observations)
            if self.double:
                with evaluating(self.q_net):
                    next_q_online = self.q_net(batch.next_observations)
                target = targets.double_q_learning(reward, discount, next_q_target, next_q_online)
            else:
                target = targets.q_learning(reward, discount, next_q_target)
        q_values = self.q_net(batch.observations)
        prediction = q_values.gather(1, batch.actions.long()).squeeze(1)
        loss = LOSSES[self.loss](prediction, target).mean()
        return loss, {"q_mean": prediction.detach().mean(), "q_max": q_values.detach().max()}
