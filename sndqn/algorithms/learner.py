"""How updates are made: on which samples, and by which optimiser."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from sndqn.algorithms.acceleration import (
    AcceleratedUpdates,
    find_acceleration,
    require_acceleration,
)
from sndqn.algorithms.loop import ActAndLearnLoop
from sndqn.errors import TrainingError
from sndqn.networks.heads import HeadName
from sndqn.optimizers import Adam, Moments
from sndqn.policies import SpectralPolicyMixin
from sndqn.replay import Batch, split

# Compiling takes as long as it saves in some twenty thousand updates of a small network.
COMPILE_FROM_UPDATES = 25_000
# Adam's first steps move every weight by the learning rate: a power iteration lags by up to 12 % in
# a layer of 256 x 256 at 0.004. Later ones keep within 2 % (docs/data/sigma.json).
SETTLED_UPDATES = 100
# Batches drawn from the replay at once.
_DRAWN_AT_ONCE = 8


class Update(NamedTuple):
    """What an update needs: one gradient a parameter, priorities of the samples, what to log."""

    gradients: list[Tensor]
    priorities: Tensor
    logs: dict[str, Tensor]


class Learner(ActAndLearnLoop):
    """The part of an algorithm that makes its updates; what an update is, `update` says.

    Attributes:
        head: The head of its networks, by name.
        setting_names: The attributes that its updates read as numbers, flags and names.
        prioritized: Whether samples are drawn by their last loss.
        priority_settings: The arguments of the replay that go with it.
        compile: Whether the updates are accelerated: True, False or "auto".
        step_groups: The optimiser's groups, by index, and what in each is trained.
    """

    head: ClassVar[HeadName] = "linear"
    setting_names: ClassVar[tuple[str, ...]] = ()
    prioritized: bool
    priority_settings: dict[str, float]
    compile: bool | Literal["auto"]
    _noisy: Any
    _train_logs: dict[str, Tensor]

    @property
    def n_random(self) -> int:
        """Uniform random numbers per sample that the loss takes, as `batch.random`."""
        return 0

    def update(self, batch: Batch) -> Update:
        """Gives the gradients of the loss on a batch, changing no parameter.

        No tensor's value decides what Python does: the operations are always the same.
        """
        raise NotImplementedError

    def find_trained(self) -> None:
        """Looks up what is trained; to be called again whenever networks or optimiser change."""
        self._learning = False
        self._accelerates_next = False
        self._accelerated: AcceleratedUpdates | None = None
        self._trained = [p for p in self.policy.q_net.parameters() if p.requires_grad]
        # In the order of `_trained`.
        self.step_groups: list[tuple[int, list[Any]]] = [(0, self._trained)]

    def _has_one_array(self) -> bool:
        return not isinstance(self.observation_space, spaces.Dict)

    def before_learning(self, total_timesteps: int) -> None:
        """Trusts the σ that updates keep current, and decides whether they are accelerated."""
        self._learning = True
        self._trust_sigma(True)
        if self._accelerated is not None and not self._accelerated.still_valid():
            self._accelerated = None
        self._accelerates_next = self._accelerated is None and self.will_compile(total_timesteps)

    def before_acting(self) -> None:
        """Draws the noise to act by."""
        self.draw_noise()

    def draw_noise(self) -> None:
        """Draws new noise for noisy layers, where there are any."""
        if self._noisy is not None:
            self._noisy.reset_noise()

    def after_learning(self) -> None:
        """Leaves the mean weights, and no step under way."""
        if self._noisy is not None:
            self._noisy.remove_noise()
        self._learning = False
        self._trust_sigma(False)
        super().after_learning()

    def _trust_sigma(self, trusts: bool) -> None:
        if isinstance(self.policy, SpectralPolicyMixin):
            self.policy.trust_sigma(trusts)

    def will_compile(self, total_timesteps: int) -> bool:
        """Says whether a training of so many steps accelerates its updates.

        Raises:
            ConfigError: That is asked for, but the package `sndqn.acceleration` is missing.
        """
        if self.compile is True:
            require_acceleration()
        if not self._has_one_array():
            return False
        if self.compile != "auto":
            return self.compile
        assert isinstance(self.train_freq, TrainFreq)
        blocks = (total_timesteps - self.learning_starts) / self.train_freq.frequency / self.n_envs
        enough = blocks * max(self.gradient_steps, 1) >= COMPILE_FROM_UPDATES
        found = find_acceleration() if enough and self.device.type == "cpu" else None
        return found is not None and found.compiler_available()

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Makes so many updates of the online network on samples of the replay."""
        self._update_learning_rate(self.policy.optimizer)
        # Priorities of one batch decide on the next.
        at_once = 1 if self.prioritized else _DRAWN_AT_ONCE
        for first in range(0, gradient_steps, at_once):
            n = min(gradient_steps - first, at_once)
            samples = self._draw(n * batch_size)
            if self._accelerates_next:
                self._accelerate(samples, n)
            made = None if self._accelerated is None else self._accelerated.make_updates(samples, n)
            priorities, self._train_logs = made or self.make_updates(samples, n)
            if self.prioritized:
                buffer: Any = self.replay_buffer
                buffer.update_priorities(buffer.sampled, priorities)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if self.device.type == "cpu":  # elsewhere at each record: looking would wait for the device
            self._check_loss()

    def _check_loss(self) -> None:
        loss = float(self._train_logs.get("loss", 0.0))
        self.logger.record("train/loss", loss)
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

    def make_updates(self, samples: Batch, n_updates: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Makes so many updates, each on its share of the samples; gives what the last one gave."""
        for index, batch in enumerate(split(samples, len(samples.rewards) // n_updates)):
            self.draw_noise()
            last = self.step(batch)
            self.settle_sigma(index)
        return last

    def settles_sigma(self, index: int = 0) -> bool:
        """Says whether σ is found anew after an update, as it is after the first ones of all.

        Args:
            index: Of the update within its block.
        """
        ours = isinstance(self.policy, SpectralPolicyMixin)
        return ours and self._n_updates + index < SETTLED_UPDATES

    def settle_sigma(self, index: int) -> None:
        """Has σ found anew after such an update: these move weights farthest."""
        if self.settles_sigma(index):
            policy: Any = self.policy
            policy.settle_sigma()

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Makes one update of the online network; gives the priorities and what to log."""
        gradients, priorities, logs = self.update(batch)
        self.apply_gradients(gradients)
        return priorities, logs

    @property
    def has_own_step(self) -> bool:
        """Whether policy and optimiser are sndqn's own, which sndqn.optimizers.Adam steps."""
        ours = isinstance(self.policy, SpectralPolicyMixin)
        optimizer = self.policy.optimizer
        return ours and isinstance(optimizer, Adam) and optimizer.makes_own_steps

    def moments(self) -> list[Moments]:
        """Gives what the optimiser remembers, group by group; nothing for a foreign one."""
        optimizer: Any = self.policy.optimizer
        groups = self.step_groups if self.has_own_step else []
        return [optimizer.moments(index, parameters) for index, parameters in groups]

    def update_settings(self) -> list[Any]:
        """Gives the settings that updates go by, the optimiser's among them, as they are now."""
        groups = self.policy.optimizer.param_groups if self.has_own_step else []
        settings = [(group["betas"], group["eps"], group["weight_decay"]) for group in groups]
        values = [getattr(self, name) for name in self.setting_names]
        return settings + [dict(v) if isinstance(v, dict) else v for v in values]

    def step_sizes(self, n_updates: int) -> list[tuple[tuple[float, float], ...]]:
        """Counts steps of the optimiser; gives what `Adam.advance` gives, by update and group."""
        optimizer: Any = self.policy.optimizer
        sizes = [optimizer.advance(index, params, n_updates) for index, params in self.step_groups]
        return list(zip(*sizes, strict=True))

    def apply_gradients(
        self, gradients: list[Tensor], sizes: Sequence[Tensor] | None = None
    ) -> None:
        """Makes the optimiser's step, and the power iterations that belong to it.

        Args:
            gradients: One for each trained parameter.
            sizes: Of the step, group by group; None: the optimiser counts its steps itself.
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

    def _accelerate(self, samples: Batch, n_updates: int) -> None:
        """Replaces `make_updates` for samples like these, where that is possible."""
        self._accelerates_next = False
        package = find_acceleration()
        if package is None:
            return
        assert isinstance(self._last_obs, np.ndarray)
        observations = torch.as_tensor(self._last_obs, device=self.device)
        if isinstance(self.policy, SpectralPolicyMixin):
            self.policy.replaced_refine = None  # what is accelerated is the policy's own
        self._trust_sigma(True)  # as in training, wherever this is called
        try:
            accelerated = package.accelerate(self, samples, n_updates, observations)
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            warnings.warn(f"Updates run without acceleration: {reason}", stacklevel=2)
            return
        finally:
            self._trust_sigma(self._learning)
        self._accelerated = accelerated
        if isinstance(self.policy, SpectralPolicyMixin):
            self.policy.replaced_refine = accelerated.refine

    def accelerate_now(self) -> None:
        """Does what the first update of a training does, drawing no random number."""
        kept = np.random.get_state()
        rows: Any = self.replay_buffer
        n = 1 if self.prioritized else min(max(self.gradient_steps, 1), _DRAWN_AT_ONCE)
        samples = Batch(*rows.sample(n * self.batch_size, env=self._vec_normalize_env))
        np.random.set_state(kept)
        if self.n_random:
            shape = n * self.batch_size, self.n_random
            samples = samples._replace(random=torch.full(shape, 0.5, device=self.device))
        self._accelerate(samples, n)

    def greedy_actions(self) -> np.ndarray:
        """Gives the best action for each environment's last observation."""
        assert self._last_obs is not None
        actions = None
        observations = obs_as_tensor(self._last_obs, self.device)
        if self._accelerated is not None and isinstance(observations, Tensor):
            actions = self._accelerated.greedy_actions(observations)
        if actions is None:
            with torch.no_grad():
                actions = self.policy._predict(observations, deterministic=True)
        return actions.cpu().numpy()

    def dump_logs(self) -> None:
        """Writes a record of the logs, the newest update's among them."""
        if self._train_logs:
            self._check_loss()
        if self._n_updates:
            self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in self._train_logs.items():
            self.logger.record(f"train/{name}", float(value))
        super().dump_logs()

    def _excluded_save_params(self) -> list[str]:
        # Tensors of the policy, which is saved already, and what is made anew.
        statistics = ["batch_norm_stats", "batch_norm_stats_target"]
        own = ["_trained", "step_groups", "_train_logs", "_noisy"]
        own += ["_accelerated", "_accelerates_next", "_learning"]
        step = ["_stage", "_env_sent_to", "_known_env", "_copies", "_sent", "_received"]
        step += ["_originals", "_place", "_position"]
        return [*super()._excluded_save_params(), *statistics, *own, *step]
