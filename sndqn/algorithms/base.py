"""What every value-based algorithm shares: the update, its flags, and how it is set up.

A variant says what its loss is, in `compute_losses`, and nothing else.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from sndqn.algorithms.batches import frames_in, split
from sndqn.algorithms.compilation import CompiledUpdate, compiler_available
from sndqn.algorithms.exploration import ExplorationName, ExplorationSchedule
from sndqn.algorithms.loop import ActAndLearnLoop
from sndqn.algorithms.target_network import evaluating
from sndqn.errors import ConfigError, TrainingError
from sndqn.networks.heads import HeadName
from sndqn.optimizers import Adam, Moments
from sndqn.policies import POLICIES, SNDQNPolicy, SpectralPolicyMixin
from sndqn.replay import Batch, FrameRing, PrioritizedFrameRing

# Compiling takes as long as it saves in some twenty thousand updates of a small network.
COMPILE_FROM_UPDATES = 25_000
# Batches drawn from the replay at once.
_DRAWN_AT_ONCE = 8


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


class Update(NamedTuple):
    """What an update needs: one gradient a parameter, and the fields of `Losses` to keep."""

    gradients: list[Tensor]
    priorities: Tensor
    logs: dict[str, Tensor]


class ValueBasedAlgorithm(ActAndLearnLoop):
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
        compile: Whether the update is compiled: True, False, or "auto" (default), which is from
            25 000 updates on, on a CPU with a C++ compiler.
        **kwargs: As Stable-Baselines3's `DQN`. `replay_buffer_class` is `FrameRing` unless given
            (Stable-Baselines3's own for Dict observations).

    Raises:
        ConfigError: Flags that cannot go together.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        **ActAndLearnLoop.policy_aliases,
        **POLICIES,
    }
    head: ClassVar[HeadName] = "linear"

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
        self.compile = compile
        if self.head != "linear":
            own = {"head": self.head, "head_kwargs": self.head_kwargs()}
            kwargs["policy_kwargs"] = {**(kwargs.get("policy_kwargs") or {}), **own}
        super().__init__(*args, **kwargs)

    def head_kwargs(self) -> dict[str, Any]:
        """Gives the arguments of the algorithm's head."""
        return {}

    @property
    def n_random(self) -> int:
        """Uniform random numbers per sample that the loss takes, as `batch.random`."""
        return 0

    def compute_losses(self, batch: Batch) -> Losses:
        """Gives the loss of each sample of a batch.

        A pure function of the networks and the batch: no tensor's value decides what Python does,
        so that it can be compiled. Online forward passes whose gradient is not taken belong in
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
        super()._setup_model()
        self.n_steps, self.replay_buffer_kwargs = n_steps, given
        self.exploration_schedule: Any = ExplorationSchedule(
            self.exploration_initial_eps,
            self.exploration_final_eps,
            self.exploration_warmup_fraction,
            self.exploration_fraction,
            self.exploration,
        )
        if isinstance(self.policy, SpectralPolicyMixin):
            self.policy.set_live_target(False)  # sync_target sees to it
        ours = isinstance(self.policy, SNDQNPolicy)
        self._noisy: Any = self.policy if ours and self.policy.noisy else None
        self._train_logs: dict[str, Tensor] = {}
        self.find_trained()

    def find_trained(self) -> None:
        """Looks up what is trained; to be called again whenever networks or optimiser change."""
        self._compiles_next = False
        self._compiled: CompiledUpdate | None = None
        self._trained = [p for p in self.policy.q_net.parameters() if p.requires_grad]
        # The optimiser's groups, by index, and what in each is trained, in the order of `_trained`.
        self.step_groups: list[tuple[int, list[Any]]] = [(0, self._trained)]

    def _has_one_array(self) -> bool:
        return not isinstance(self.observation_space, spaces.Dict)

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

    def before_learning(self, total_timesteps: int) -> None:
        """Decides whether the first update compiles all others."""
        self._compiles_next = self._compiled is None and self.will_compile(total_timesteps)

    def before_acting(self) -> None:
        """Draws the noise to act by."""
        if self._noisy is not None:
            self._noisy.reset_noise()

    def after_learning(self) -> None:
        """Leaves the mean weights."""
        if self._noisy is not None:
            self._noisy.remove_noise()

    def will_compile(self, total_timesteps: int) -> bool:
        """Says whether a training of so many steps compiles the update."""
        if not self._has_one_array():
            return False
        if self.compile != "auto":
            return self.compile
        assert isinstance(self.train_freq, TrainFreq)
        blocks = (total_timesteps - self.learning_starts) / self.train_freq.frequency / self.n_envs
        enough = blocks * max(self.gradient_steps, 1) >= COMPILE_FROM_UPDATES
        return enough and self.device.type == "cpu" and compiler_available()

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Makes so many updates of the online network on samples of the replay."""
        self._update_learning_rate(self.policy.optimizer)
        # Priorities of one batch decide on the next.
        at_once = 1 if self.prioritized else _DRAWN_AT_ONCE
        for first in range(0, gradient_steps, at_once):
            n = min(gradient_steps - first, at_once)
            batches = split(self._draw(n * batch_size), batch_size)
            if self._compiles_next:
                self._compile_update(batches[0])
            compiled = self._compiled
            learner = compiled if compiled and compiled.accepts(batches[0]) else self
            for batch in batches:
                if self._noisy is not None:
                    self._noisy.reset_noise()
                priorities, self._train_logs = learner.step(batch)
                if self.prioritized:
                    buffer: Any = self.replay_buffer
                    buffer.update_priorities(buffer.sampled, priorities)
        self._n_updates += gradient_steps
        if self.device.type == "cpu":  # elsewhere at each record: looking would wait for the device
            self._check_loss()

    def _check_loss(self) -> None:
        loss = float(self._train_logs.get("loss", 0.0))
        if not math.isfinite(loss):
            raise TrainingError(
                f"step {self.num_timesteps}, update {self._n_updates}: expected a finite loss, "
                f"found {loss}. A lower --learning-rate, or --max-grad-norm, may help"
            )

    def _draw(self, n_samples: int) -> Batch:
        buffer: Any = self.replay_buffer
        if self.prioritized:
            start = self.priority_settings["importance_exponent"]
            buffer.beta = 1 - (1 - start) * max(self._current_progress_remaining, 0.0)
        batch = Batch(*buffer.sample(n_samples, env=self._vec_normalize_env))
        if self.n_random:
            random = torch.rand(n_samples, self.n_random, device=self.device)
            batch = batch._replace(random=random)
        return batch

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Makes one update of the online network; gives the priorities and what to log."""
        gradients, priorities, logs = self.update(batch)
        self.apply_gradients(gradients)
        return priorities, logs

    @property
    def has_own_step(self) -> bool:
        """Whether policy and optimiser are sndqn's own, so that the step can be traced."""
        ours = isinstance(self.policy, SpectralPolicyMixin)
        return ours and isinstance(self.policy.optimizer, Adam)

    def moments(self) -> list[Moments]:
        """Gives what the optimiser remembers, group by group; nothing for a foreign one."""
        optimizer: Any = self.policy.optimizer
        groups = self.step_groups if self.has_own_step else []
        return [optimizer.moments(index, parameters) for index, parameters in groups]

    def step_sizes(self) -> list[tuple[float, float]]:
        """Counts a step of each of the optimiser's groups; gives what `Adam.advance` gives."""
        optimizer: Any = self.policy.optimizer
        return [optimizer.advance(index, parameters) for index, parameters in self.step_groups]

    def apply_gradients(
        self, gradients: list[Tensor], sizes: Sequence[Tensor] | None = None
    ) -> None:
        """Makes the optimiser's step, and the power iterations that belong to it.

        Args:
            gradients: One for each trained parameter.
            sizes: Of the step, as `step_sizes` gives them: by these an own step can be traced.
        """
        policy: Any = self.policy
        optimizer = policy.optimizer
        if not self.has_own_step:
            for parameter, gradient in zip(self._trained, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            optimizer.zero_grad()
            return
        first = 0
        for i, (index, parameters) in enumerate(self.step_groups):
            last = first + len(parameters)
            size = None if sizes is None else sizes[i]
            optimizer.apply(parameters, gradients[first:last], index, size)
            first = last
        policy.after_optimizer_step()

    def _compile_update(self, batch: Batch) -> None:
        self._compiles_next = False
        assert isinstance(self._last_obs, np.ndarray)
        observations = torch.as_tensor(self._last_obs, device=self.device)
        if isinstance(self.policy, SpectralPolicyMixin):
            self.policy.compiled_refine = None  # to be traced, not called
        try:
            self._compiled = CompiledUpdate(self, batch, observations)
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            warnings.warn(f"The update runs uncompiled, as torch says: {reason}", stacklevel=2)
            return
        if isinstance(self.policy, SpectralPolicyMixin):
            self.policy.compiled_refine = self._compiled.refine

    def compile_now(self) -> None:
        """Compiles the update as the first of a training does, drawing no random number."""
        kept = np.random.get_state()
        rows: Any = self.replay_buffer
        batch = Batch(*rows.sample(self.batch_size, env=self._vec_normalize_env))
        np.random.set_state(kept)
        if self.n_random:
            shape = self.batch_size, self.n_random
            batch = batch._replace(random=torch.full(shape, 0.5, device=self.device))
        self._compile_update(batch)

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
            flat = [gradient.flatten() for gradient in gradients]
            norm = logs["grad_norm"] = torch.stack([torch.dot(g, g) for g in flat]).sum().sqrt()
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

    def greedy_actions(self) -> np.ndarray:
        """Gives the best action for each environment's last observation."""
        assert self._last_obs is not None
        actions = None
        observations = obs_as_tensor(self._last_obs, self.device)
        if self._compiled and isinstance(observations, Tensor):
            actions = self._compiled.greedy_actions(observations)
        if actions is None:
            with torch.no_grad():
                actions = self.policy._predict(observations, deterministic=True)
        return actions.cpu().numpy()

    def dump_logs(self) -> None:
        """Writes a record of the logs, the newest update's among them."""
        self._check_loss()
        if self._n_updates:
            self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in self._train_logs.items():
            self.logger.record(f"train/{name}", float(value))
        super().dump_logs()

    def _excluded_save_params(self) -> list[str]:
        # Tensors of the policy, which is saved already, and what is made anew.
        statistics = ["batch_norm_stats", "batch_norm_stats_target"]
        own = ["_trained", "step_groups", "_compiled", "_compiles_next", "_train_logs", "_noisy"]
        return [*super()._excluded_save_params(), *statistics, *own]
