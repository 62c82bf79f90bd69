"""What an algorithm makes of a batch: the one thing in which the algorithms differ."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sndqn.algorithms.target_network import evaluating
from sndqn.policies.dqn import SNQNetwork
from sndqn.replay import Batch


class Networks(NamedTuple):
    """The networks of an algorithm. Under Stable-Baselines3's policies they are its `QNetwork`."""

    online: SNQNetwork
    target: SNQNetwork


class Losses(NamedTuple):
    """The losses of a batch.

    Attributes:
        values: The loss of each sample, shape (batch,).
        priorities: How much each sample should be drawn again, shape (batch,), detached.
        logs: What to log, scalars.
    """

    values: Tensor
    priorities: Tensor
    logs: dict[str, Tensor]


class Munchausen(NamedTuple):
    """The settings of Munchausen targets: see `sndqn.targets.munchausen`."""

    scale: float
    temperature: float
    clip: float


@dataclass(frozen=True)
class Loss(ABC):
    """The loss of an algorithm: a pure function of networks and batch, and all settings it reads.

    Attributes:
        gamma: γ, where the batch brings no discounts.
        double: Whether the online network chooses the action that the target network values.
        munchausen: The settings of Munchausen targets; None for targets without.
    """

    gamma: float
    double: bool
    munchausen: Munchausen | None

    @abstractmethod
    def __call__(self, networks: Networks, batch: Batch) -> Losses:
        """Computes the loss of each sample.

        The online network is in training mode. Its forward passes whose gradient is not taken
        belong in `evaluating(networks.online)`. No tensor's value may decide what Python does.
        """

    @property
    def n_random(self) -> int:
        """Uniform random numbers per sample that the loss takes, as `batch.random`."""
        return 0

    def rewards_and_discounts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns rewards, and discounts of what follows, 0 where nothing does; (batch,)."""
        reward, done = batch.rewards.flatten(), batch.dones.flatten()
        gamma = self.gamma if batch.discounts is None else batch.discounts.flatten()
        return reward, (1 - done) * gamma

    def next_actions(self, networks: Networks, batch: Batch, next_q_target: Tensor) -> Tensor:
        """Returns the actions that the target values in s', (batch,): greedy, or doubly so."""
        if not self.double:
            return next_q_target.argmax(dim=1)
        with evaluating(networks.online):
            next_q_online: Tensor = networks.online(batch.next_observations)
        return next_q_online.argmax(dim=1)
