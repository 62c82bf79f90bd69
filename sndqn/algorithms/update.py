"""The update: all that happens between a batch and the weights it moves, the same for every loss.

A call of an `Update` is `gradients`, then `step`: loss, importance weights, gradient penalty,
gradients, clipping; the optimiser's step; σ of the new weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor, nn

from sndqn.algorithms.loss import Loss, Networks
from sndqn.algorithms.target_network import evaluating
from sndqn.optimizers import Adam
from sndqn.policies import SNDQNPolicy, SpectralPolicyMixin
from sndqn.policies.dqn import SNQNetwork
from sndqn.replay import Batch

Groups = list[tuple[int, list[nn.Parameter]]]
"""Groups of an optimiser, by index, with the parameters of each."""
Result = tuple[Tensor, dict[str, Tensor]]
"""What an update returns: the priorities of its samples, shape (batch,), and scalars to log."""


@dataclass(frozen=True)
class UpdateSettings:
    """Every setting that an update goes by, the optimiser's aside.

    Attributes:
        loss: The loss of the algorithm, with settings of its own.
        max_grad_norm: What the norm of all gradients is clipped to; None clips nothing.
        gradient_penalty: Factor on the mean of max(0, |∂Q(s, a)/∂s| - threshold)²; 0 leaves it out.
        gradient_penalty_threshold: The threshold, a slope that is free.
    """

    loss: Loss
    max_grad_norm: float | None
    gradient_penalty: float
    gradient_penalty_threshold: float


class Gradients(NamedTuple):
    """The first half of an update: one gradient a parameter, priorities of the samples, logs."""

    gradients: list[Tensor]
    priorities: Tensor
    logs: dict[str, Tensor]


class Update:
    """The update of an online network on a batch.

    Args:
        policy: The networks and their optimiser.
        settings: What the update goes by.
        groups: The optimiser's groups that it steps, and the trained parameters of each; all by
            default. Tasks that share an optimiser step some of its groups each.

    Attributes:
        settings: A record, replaced when the algorithm's attributes have changed.
        networks: The online network and the target network.
        parameters: What is trained of the online network, group by group.
    """

    def __init__(
        self, policy: DQNPolicy, settings: UpdateSettings, groups: Groups | None = None
    ) -> None:
        self.policy = policy
        self.settings = settings
        online, target = policy.q_net, policy.q_net_target
        self.networks = Networks(cast(SNQNetwork, online), cast(SNQNetwork, target))
        self.groups = groups or _groups_of(policy)
        self.parameters = [p for _, parameters in self.groups for p in parameters]

    def __call__(self, batch: Batch, *, converge: bool = False) -> Result:
        """Makes an update.

        Args:
            batch: The samples.
            converge: Whether σ is found anew afterwards, not by one power iteration.
        """
        self.draw_noise()
        gradients, priorities, logs = self.gradients(batch)
        self.step(gradients)
        if converge:
            self.converge_sigma()
        return priorities, logs

    def gradients(self, batch: Batch) -> Gradients:
        """Computes the clipped gradients of the loss. Moves nothing.

        No tensor's value decides what Python does: the operations are always the same.
        """
        settings = self.settings
        self.policy.set_training_mode(True)
        losses = settings.loss(self.networks, batch)
        weighted = losses.values
        if batch.weights is not None:
            weighted = weighted * batch.weights.flatten()
        loss, logs = weighted.mean(), dict(losses.logs)
        if settings.gradient_penalty:
            excess = self._slopes(batch) - settings.gradient_penalty_threshold
            logs["gradient_penalty"] = penalty = excess.clamp_min(0).square().mean()
            loss = loss + settings.gradient_penalty * penalty
        gradients = list(torch.autograd.grad(loss, self.parameters, materialize_grads=True))
        if settings.max_grad_norm is not None:
            norms = torch.stack([torch.linalg.vector_norm(g) for g in gradients])
            norm = logs["grad_norm"] = torch.linalg.vector_norm(norms)
            torch._foreach_mul_(gradients, (settings.max_grad_norm / (norm + 1e-6)).clamp_max(1.0))
        self.policy.set_training_mode(False)
        logs = {name: value.detach() for name, value in {"loss": loss, **logs}.items()}
        return Gradients(gradients, losses.priorities, logs)

    def step(self, gradients: list[Tensor], sizes: Sequence[Tensor] | None = None) -> None:
        """Makes the optimiser's step, and the power iterations that belong to it.

        Args:
            gradients: One for each parameter.
            sizes: Sizes of the step, group by group; None: the optimiser counts its steps itself.
        """
        optimizer: Any = self.policy.optimizer
        if not self.uses_sndqn_adam:
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()  # calls the policy where σ is the policy's
            optimizer.zero_grad()
            return
        policy, first = cast(SNDQNPolicy, self.policy), 0
        for i, (index, parameters) in enumerate(self.groups):
            last = first + len(parameters)
            size = None if sizes is None else sizes[i]
            optimizer.apply(parameters, gradients[first:last], index, size)
            first = last
        policy.after_optimizer_step()

    @property
    def uses_sndqn_adam(self) -> bool:
        """Whether sndqn's Adam steps a policy of sndqn, by gradients handed to it directly."""
        policy, optimizer = self.policy, self.policy.optimizer
        ours = isinstance(policy, SpectralPolicyMixin) and isinstance(optimizer, Adam)
        return ours and cast(Adam, optimizer).makes_own_steps

    def converge_sigma(self) -> None:
        """Finds σ anew, where there is any, after a step that may have moved the weights far."""
        if isinstance(self.policy, SpectralPolicyMixin):
            self.policy.converge_sigma()

    def draw_noise(self) -> None:
        """Draws new noise for noisy layers, where there are any."""
        if isinstance(self.policy, SNDQNPolicy):
            self.policy.reset_noise()

    def _slopes(self, batch: Batch) -> Tensor:
        """Computes |∂Q(s, a)/∂s| of each sample, differentiable by the weights; (batch,)."""
        network = self.networks.online
        with evaluating(network):  # σ is a constant to the penalty
            prepared: Any = network.prepare(batch.observations)
            prepared = prepared.detach().requires_grad_()
            q_values = network.q_net.q_values(network.outputs_of(prepared))
            chosen = q_values.gather(1, batch.actions.long()).sum()
            (gradient,) = torch.autograd.grad(chosen, prepared, create_graph=True)
        # Not the norm itself, whose derivative at zero is not a number.
        slopes: Tensor = (gradient.flatten(1).square().sum(dim=1) + 1e-12).sqrt()
        return slopes


def _groups_of(policy: DQNPolicy) -> Groups:
    """Returns what is trained of a policy's online network, by the groups of its optimiser."""
    trained = [p for p in policy.q_net.parameters() if p.requires_grad]
    groups = policy.optimizer.param_groups
    if len(groups) == 1:
        return [(0, trained)]
    known = set(map(id, trained))
    found = [[p for p in group["params"] if id(p) in known] for group in groups]
    return [(index, parameters) for index, parameters in enumerate(found) if parameters]
