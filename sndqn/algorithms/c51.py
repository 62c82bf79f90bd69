"""C51, Categorical DQN: the probabilities of fixed returns for every action."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from sndqn import losses, targets
from sndqn.algorithms.base import ValueBasedAlgorithm
from sndqn.algorithms.loss import Loss, Losses, Networks
from sndqn.errors import ConfigError
from sndqn.networks.heads import HeadName
from sndqn.replay import Batch


@dataclass(frozen=True)
class C51Loss(Loss):
    """The cross-entropy against the projected target; it is the priority too."""

    def __call__(self, networks: Networks, batch: Batch) -> Losses:
        """Computes the losses."""
        reward, discount = self.rewards_and_discounts(batch)
        head = networks.online.q_net
        rows = torch.arange(len(reward), device=reward.device)
        with torch.no_grad():
            next_logits = networks.target.outputs(batch.next_observations)
            next_q = networks.target.q_net.q_values(next_logits)
            choice = self.next_actions(networks, batch, next_q)
            probabilities = next_logits[rows, choice].softmax(dim=1)
            target = targets.categorical_projection(reward, discount, probabilities, head.support)
        logits = networks.online.outputs(batch.observations)
        prediction = logits[rows, batch.actions.long().squeeze(1)]
        values = losses.cross_entropy(prediction, target)
        q_values = head.q_values(logits.detach())
        q_mean = q_values.gather(1, batch.actions.long()).mean()
        return Losses(values, values.detach(), {"q_mean": q_mean, "q_max": q_values.max()})


class C51(ValueBasedAlgorithm):
    """Categorical DQN: learns the distribution of returns over fixed atoms by cross-entropy.

    Args:
        *args: As `ValueBasedAlgorithm`; `munchausen` is refused.
        n_atoms: Number of atoms.
        v_min: The lowest; returns below it count as it.
        v_max: The highest. -10 to 10 suits rewards clipped to [-1, 1].
        **kwargs: As `ValueBasedAlgorithm`.

    Source: Bellemare et al., ICML 2017 (arXiv 1707.06887).
    """

    head: ClassVar[HeadName] = "categorical"

    def __init__(
        self,
        *args: Any,
        n_atoms: int = 51,
        v_min: float = -10.0,
        v_max: float = 10.0,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("munchausen"):
            raise ConfigError(
                "munchausen and C51: the soft next value moves every action's atoms by another "
                "amount, and no paper says how to project that. Use DQN, QRDQN or IQN"
            )
        self.n_atoms, self.v_min, self.v_max = n_atoms, v_min, v_max
        super().__init__(*args, **kwargs)

    def head_kwargs(self) -> dict[str, Any]:
        """Returns the atoms."""
        return {"n_atoms": self.n_atoms, "v_min": self.v_min, "v_max": self.v_max}

    def make_loss(self) -> C51Loss:
        """Returns the cross-entropy."""
        return C51Loss(*self.target_settings())
