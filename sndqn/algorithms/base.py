"""What every value-based algorithm shares: the update, its flags, and how it is set up.

A variant says what its loss is, in `compute_losses`, and nothing else.
"""

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from sndqn.algorithms.acceleration import require_acceleration
from sndqn.algorithms.exploration import ExplorationName, ExplorationSchedule
from sndqn.algorithms.learner import Learner, Update
from sndqn.algorithms.target_network import evaluating
from sndqn.envs.frames import frames_in
from sndqn.errors import ConfigError
from sndqn.policies import POLICIES, SNDQNPolicy
from sndqn.replay import Batch, FrameRing, PrioritizedFrameRing


class Losses(NamedTuple):
    """What an algorithm makes of a batch.

    Attributes:
        values: The loss of each sample, shape (batch,).
        priorities: How much each sample should be drawn again, shape (batch,), detached.
        logs: What to log, scalars.
    """

    values: Tensor
    priorities: Tensor
    logs: dict[str, Tensor]


class ValueBasedAlgorithm(Learner):
    """Base of sndqn's algorithms over Stable-Baselines3's DQN, which it is and stays.

    Same arguments, callbacks, logger, saving and loading, same number of updates on the same
    uniform samples. What differs: each environment of a vector draws its own ε-greedy coin; target
    networks keep their bound under soft updates; `max_grad_norm=None` clips nothing; the replay
    stores each frame once; learning goes on while the environments run; nothing is read off the
    device within a block of updates.

    Args:
        *args: As Stable-Baselines3's `DQN`; policies also "SNMlpPolicy", "SNCnnPolicy",
            "SNMultiInputPolicy" by name. `policy_kwargs` takes `dueling` and `noisy`.
        double: Whether the online network chooses the action that the target network values (van
            Hasselt et al., AAAI 2016, arXiv 1509.06461).
        munchausen: Whether rewards gain the scaled log-policy and the next value is a soft one
            (Vieillard et al., NeurIPS 2020, arXiv 2007.14430).
        munchausen_scale: α of it, 0.9.
        munchausen_temperature: τ of it, 0.03.
        munchausen_clip: Lowest log-policy term, -1.
        prioritized: Whether samples are drawn by their last loss, and weighted for it (Schaul et
            al., ICLR 2016, arXiv 1511.05952).
        priority_exponent: α of it, 0.5 as in Rainbow.
        importance_exponent: β of it at the start, 0.4; it rises linearly to 1.
        gradient_penalty: Factor on the mean of max(0, |∂Q(s, a)/∂s| - threshold)², with
            observations as the network sees them, images in [0, 1]; 0 leaves it out.
        gradient_penalty_threshold: Slope that is free, 1.
        exploration: How ε falls: "linear", "logarithmic", or "constant" at its final value.
        exploration_warmup_fraction: Share of the training before it begins to.
        overlap: Whether the updates of a block are made while its last step is emulated, and so do
            not sample that step yet; True by default.
        compile: Whether updates are made by `sndqn.acceleration`: True, False, or "auto" (default),
            which is from 25 000 updates on, on a CPU with g++ or clang++. On a GPU only True is:
            that has not been tried on one yet.
        **kwargs: As Stable-Baselines3's `DQN`. `replay_buffer_class` is `FrameRing` unless given
            (Stable-Baselines3's own for Dict observations).

    Raises:
        ConfigError: Flags that cannot go together.
    """

    setting_names: ClassVar[tuple[str, ...]] = (
        "gamma",
        "max_grad_norm",
        "double",
        "munchausen",
        "munchausen_settings",
        "gradient_penalty",
        "gradient_penalty_threshold",
    )
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        **Learner.policy_aliases,
        **POLICIES,
    }

    def __init__(
        self,
        *args: Any,
        double: bool = False,
        munchausen: bool = False,
        munchausen_scale: float = 0.9,
        munchausen_temperature: float = 0.03,
        munchausen_clip: float = -1.0,
        prioritized: bool = False,
        priority_exponent: float = 0.5,
        importance_exponent: float = 0.4,
        gradient_penalty: float = 0.0,
        gradient_penalty_threshold: float = 1.0,
        exploration: ExplorationName = "linear",
        exploration_warmup_fraction: float = 0.0,
        overlap: bool = True,
        compile: bool | Literal["auto"] = "auto",
        **kwargs: Any,
    ) -> None:
        if double and munchausen:
            raise ConfigError(
                "double and munchausen: a soft policy has no greedy action for the online network "
                "to choose: leave one out"
            )
        self.double = double
        self.munchausen = munchausen
        self.munchausen_settings = {
            "scale": munchausen_scale,
            "temperature": munchausen_temperature,
            "clip": munchausen_clip,
        }
        self.prioritized = prioritized
        self.priority_settings = {
            "priority_exponent": priority_exponent,
            "importance_exponent": importance_exponent,
        }
        self.gradient_penalty = gradient_penalty
        self.gradient_penalty_threshold = gradient_penalty_threshold
        self.exploration = exploration
        self.exploration_warmup_fraction = exploration_warmup_fraction
        self.overlap = overlap
        if compile is True:
            require_acceleration()
        self.compile = compile
        if self.head != "linear":
            own = {"head": self.head, "head_kwargs": self.head_kwargs()}
            kwargs["policy_kwargs"] = {**(kwargs.get("policy_kwargs") or {}), **own}
        super().__init__(*args, **kwargs)

    def head_kwargs(self) -> dict[str, Any]:
        """Gives the arguments of the algorithm's head."""
        return {}

    def compute_losses(self, batch: Batch) -> Losses:
        """Gives the loss of each sample of a batch.

        A pure function of the networks and the batch: no tensor's value decides what Python does.
        Online forward passes whose gradient is not taken belong in
        `evaluating(self.q_net)`.
        """
        raise NotImplementedError

    def rewards_and_discounts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Gives the rewards and the discount of what follows, 0 where nothing does; (batch,)."""
        reward, done = batch.rewards.flatten(), batch.dones.flatten()
        gamma = self.gamma if batch.discounts is None else batch.discounts.flatten()
        return reward, (1 - done) * gamma

    def next_actions(self, batch: Batch, next_q_target: Tensor) -> Tensor:
        """Gives the actions that the target values in s', (batch,): greedy, or doubly so."""
        if not self.double:
            return next_q_target.argmax(dim=1)
        with evaluating(self.q_net):
            next_q_online: Tensor = self.q_net(batch.next_observations)
        return next_q_online.argmax(dim=1)

    def _setup_model(self) -> None:
        self._check_policy()
        n_steps, given = self.n_steps, self.replay_buffer_kwargs
        own_classes = (None, FrameRing, PrioritizedFrameRing)
        if self.replay_buffer_class in own_classes and self._has_one_array():
            self.replay_buffer_class = PrioritizedFrameRing if self.prioritized else FrameRing
            own: dict[str, Any] = {"n_steps": n_steps, "gamma": self.gamma}
            own["frame_stack"] = frames_in(self.env)
            if self.prioritized:
                own.update(self.priority_settings)
            self.replay_buffer_kwargs = {**own, **given}
            # Kept, and so saved: the rest follows from the settings, which loading may change.
            given = {"frame_stack": own["frame_stack"], **given}
            self.n_steps = 1  # the replay knows; Stable-Baselines3 would warn that it does not
        elif self.prioritized:
            raise ConfigError(
                "prioritized: needs sndqn's own replay, and observations that are one array"
            )
        elif n_steps > 1 and self.replay_buffer_class is None:
            raise ConfigError(
                "n_steps: returns of several steps need observations that are one array, found a "
                "Dict: leave n_steps at 1"
            )
        super()._setup_model()
        self.n_steps, self.replay_buffer_kwargs = n_steps, given
        self.exploration_schedule: Any = ExplorationSchedule(
            self.exploration_initial_eps,
            self.exploration_final_eps,
            self.exploration_warmup_fraction,
            self.exploration_fraction,
            self.exploration,
        )
        ours = isinstance(self.policy, SNDQNPolicy)
        self._noisy: Any = self.policy if ours and self.policy.noisy else None
        self._train_logs: dict[str, Tensor] = {}
        self.find_trained()

    def _check_policy(self) -> None:
        needed = self.head != "linear" or self.gradient_penalty
        if needed and not issubclass(self.policy_class, SNDQNPolicy):
            raise ConfigError(
                f"{type(self).__name__}: expected one of sndqn's policies, found "
                f"{self.policy_class.__name__}: use SNMlpPolicy, SNCnnPolicy or SNMultiInputPolicy "
                '(sn_layers="none" normalises nothing)'
            )
        if self.gradient_penalty and not self._has_one_array():
            raise ConfigError("gradient_penalty: needs observations that are one array")

    def update(self, batch: Batch) -> Update:
        """Gives the clipped gradients of the loss, the priorities, and what to log."""
        self.policy.set_training_mode(True)
        losses = self.compute_losses(batch)
        weighted = losses.values
        if batch.weights is not None:
            weighted = weighted * batch.weights.flatten()
        loss, logs = weighted.mean(), dict(losses.logs)
        if self.gradient_penalty:
            excess = (self._slopes(batch) - self.gradient_penalty_threshold).clamp_min(0)
            logs["gradient_penalty"] = penalty = excess.square().mean()
            loss = loss + self.gradient_penalty * penalty
        gradients = list(torch.autograd.grad(loss, self._trained, materialize_grads=True))
        if self.max_grad_norm is not None:
            norms = torch.stack([torch.linalg.vector_norm(g) for g in gradients])
            norm = logs["grad_norm"] = torch.linalg.vector_norm(norms)
            torch._foreach_mul_(gradients, (self.max_grad_norm / (norm + 1e-6)).clamp_max(1.0))
        self.policy.set_training_mode(False)
        logs = {name: value.detach() for name, value in {"loss": loss, **logs}.items()}
        return Update(gradients, losses.priorities, logs)

    def _slopes(self, batch: Batch) -> Tensor:
        """Gives |∂Q(s, a)/∂s| for each sample, differentiable by the weights; (batch,)."""
        network: Any = self.q_net
        with evaluating(network):  # σ is a constant to the penalty
            prepared = network.prepare(batch.observations).detach().requires_grad_()
            q_values = network.q_net.q_values(network.outputs_of(prepared))
            chosen = q_values.gather(1, batch.actions.long()).sum()
            (gradient,) = torch.autograd.grad(chosen, prepared, create_graph=True)
        # Not the norm itself, whose derivative at zero is not a number.
        slopes: Tensor = (gradient.flatten(1).square().sum(dim=1) + 1e-12).sqrt()
        return slopes
