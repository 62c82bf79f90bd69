"""What every value-based algorithm shares: the loop, the update and the target network's sync.

A variant says what its loss is, in `compute_loss`, and nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from sndqn.policies import POLICIES
from sndqn.spectral import SpectralLayer


class ValueBasedAlgorithm(SB3DQN):
    """Base of sndqn's algorithms over Stable-Baselines3's DQN, which it is and stays.

    Same arguments, callbacks, logger, saving and loading. Four departures: each environment of a
    vector draws its own ε-greedy coin; target networks keep their bound under soft updates;
    `max_grad_norm=None` clips nothing; nothing is read off the device within a block of updates.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {**SB3DQN.policy_aliases, **POLICIES}

    def compute_loss(self, batch: ReplayBufferSamples) -> tuple[Tensor, dict[str, Tensor]]:
        """Gives the loss of a batch, a scalar, and what to log of it, as tensors.

        Online forward passes whose gradient is not taken belong in `evaluating(self.q_net)`.
        """
        raise NotImplementedError

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Makes so many updates of the online network on samples of the replay."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        assert self.replay_buffer is not None
        logs: dict[str, Tensor] = {}
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            logs = self._update(batch)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in logs.items():
            self.logger.record(f"train/{name}", float(value))

    def _update(self, batch: ReplayBufferSamples) -> dict[str, Tensor]:
        loss, logs = self.compute_loss(batch)
        self.policy.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.max_grad_norm is not None:
            logs["grad_norm"] = nn.utils.clip_grad_norm_(
                self.policy.q_net.parameters(), self.max_grad_norm
            )
        self.policy.optimizer.step()
        return {"loss": loss.detach(), **logs}

    def _on_step(self) -> None:
        self._n_calls += 1
        if self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            sync_target(self.q_net, self.q_net_target, self.tau)
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def _sample_action(
        self,
        learning_starts: int,
        action_noise: ActionNoise | None = None,
        n_envs: int = 1,
    ) -> tuple[np.ndarray, np.ndarray]:
        assert self._last_obs is not None
        if self.num_timesteps < learning_starts:
            explore = np.ones(n_envs, dtype=bool)
        else:
            explore = np.random.rand(n_envs) < self.exploration_rate
        if explore.all():
            actions = np.zeros(n_envs, dtype=np.int64)
        else:
            actions, _ = self.policy.predict(self._last_obs, deterministic=True)
        for i in np.flatnonzero(explore):
            actions[i] = self.action_space.sample()
        return actions, actions

    def _excluded_save_params(self) -> list[str]:
        # Tensors of the policy, which is saved already.
        return [*super()._excluded_save_params(), "batch_norm_stats", "batch_norm_stats_target"]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Runs a block with a network in evaluation mode: no power iteration moves."""
    training = network.training
    network.train(False)
    try:
        yield
    finally:
        network.train(training)


@torch.no_grad()
def sync_target(online: nn.Module, target: nn.Module, tau: float = 1.0) -> None:
    """Moves the target network towards the online one: θ' <- (1 - τ) θ' + τ θ.

    With τ = 1 the two are equal afterwards, to the bit. With τ < 1 the weights are averaged. The
    singular vectors never are: a mean of unit vectors is too short, and σ would come out too small.
    The target keeps its own and refines them for its own weights.
    """
    if tau == 1:
        sources: list[Any] = [*online.parameters(), *online.buffers()]
        destinations: list[Any] = [*target.parameters(), *target.buffers()]
        torch._foreach_copy_(destinations, sources)
        return
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
    for source, module in zip(online.modules(), target.modules(), strict=True):
        if isinstance(module, SpectralLayer):
            module.power_iteration()
        else:  # batch statistics, as Stable-Baselines3 does
            for name, buffer in module.named_buffers(recurse=False):
                buffer.copy_(source.get_buffer(name))
