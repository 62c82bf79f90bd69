"""What every value-based algorithm shares: the loop, the update and the target network's sync.

A variant says what its loss is, in `compute_loss`, and nothing else.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import (
    MaybeCallback,
    ReplayBufferSamples,
    TrainFreq,
    TrainFrequencyUnit,
)
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack
from torch import Tensor, nn

from sndqn.algorithms.compilation import CompiledUpdate, compiler_available
from sndqn.envs.atari_vector import AtariVecEnv
from sndqn.optimizers import Adam
from sndqn.policies import POLICIES, SpectralPolicyMixin
from sndqn.replay import FrameRing
from sndqn.spectral import SpectralLayer

# Compiling takes as long as it saves in some twenty thousand updates of a small network.
COMPILE_FROM_UPDATES = 25_000
# Batches drawn from the replay at once.
_DRAWN_AT_ONCE = 8


class ValueBasedAlgorithm(SB3DQN):
    """Base of sndqn's algorithms over Stable-Baselines3's DQN, which it is and stays.

    Same arguments, callbacks, logger, saving and loading, same number of updates on the same
    uniform samples. What differs: each environment of a vector draws its own ε-greedy coin; target
    networks keep their bound under soft updates; `max_grad_norm=None` clips nothing; the replay
    stores each frame once; learning goes on while the environments run; nothing is read off the
    device within a block of updates.

    Args:
        *args: As Stable-Baselines3's `DQN`.
        overlap: Whether the updates of a block are made while its last step is emulated, and so do
            not sample that step yet; True by default.
        compile: Whether the update is compiled: True, False, or "auto" (default), which is from
            25 000 updates on, on a CPU with a C++ compiler.
        **kwargs: As Stable-Baselines3's `DQN`. `replay_buffer_class` is `FrameRing` unless given
            (Stable-Baselines3's own for Dict observations).
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {**SB3DQN.policy_aliases, **POLICIES}

    def __init__(
        self,
        *args: Any,
        overlap: bool = True,
        compile: bool | Literal["auto"] = "auto",
        **kwargs: Any,
    ) -> None:
        self.overlap = overlap
        self.compile = compile
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        n_steps = self.n_steps
        if self.replay_buffer_class is None and not isinstance(self.observation_space, spaces.Dict):
            self.replay_buffer_class = FrameRing
            own = {"frame_stack": frames_in(self.env), "n_steps": n_steps, "gamma": self.gamma}
            self.replay_buffer_kwargs = {**own, **self.replay_buffer_kwargs}
            self.n_steps = 1  # the replay knows; Stable-Baselines3 would warn that it does not
        super()._setup_model()
        self.n_steps = n_steps
        if isinstance(self.policy, SpectralPolicyMixin):
            self.policy.set_live_target(False)  # sync_target sees to it
        self._compiles_next = False
        self._trained = [p for p in self.policy.q_net.parameters() if p.requires_grad]
        self._compiled: CompiledUpdate | None = None
        self._train_logs: dict[str, Tensor] = {}

    def compute_loss(self, batch: ReplayBufferSamples) -> tuple[Tensor, dict[str, Tensor]]:
        """Gives the loss of a batch, a scalar, and what to log of it, as tensors.

        A pure function of the networks and the batch: no tensor's value decides what Python does,
        so that it can be compiled. Online forward passes whose gradient is not taken belong in
        `evaluating(self.q_net)`.
        """
        raise NotImplementedError

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "run",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Trains for so many steps, over all environments; arguments as Stable-Baselines3's."""
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        self.policy.set_training_mode(False)  # as `gradients` leaves it
        callback.on_training_start(locals(), globals())
        assert isinstance(self.env, VecEnv)
        assert isinstance(self.train_freq, TrainFreq)
        self._compiles_next = self._compiled is None and self.will_compile(
            total_timesteps - self.num_timesteps
        )
        while self.num_timesteps < total_timesteps:
            callback.on_rollout_start()
            if not self._collect_and_learn(self.env, self.train_freq, callback, log_interval):
                break
            callback.on_rollout_end()
        callback.on_training_end()
        return self

    def _collect_and_learn(
        self, env: VecEnv, train_freq: TrainFreq, callback: BaseCallback, log_interval: int | None
    ) -> bool:
        """Makes the steps of one block and its updates; False where a callback stops training."""
        by_steps = train_freq.unit == TrainFrequencyUnit.STEP
        assert by_steps or env.num_envs == 1, "Episodic training takes one environment."
        n_steps = n_episodes = 0
        while (n_steps if by_steps else n_episodes) < train_freq.frequency:
            actions, _ = self._sample_action(self.learning_starts, n_envs=env.num_envs)
            env.step_async(actions)
            n_steps += 1
            early = self.overlap and by_steps and n_steps == train_freq.frequency
            if early := early and self._samples_available():
                self._learn_block(n_steps * env.num_envs, env.num_envs)
            new_obs, rewards, dones, infos = env.step_wait()
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            self._store_transition(self.replay_buffer, actions, new_obs, rewards, dones, infos)
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            for _ in range(int(np.count_nonzero(dones))):
                n_episodes += 1
                self._episode_num += 1
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
        if not early:
            self._learn_block(n_steps * env.num_envs, 0)
        return True

    def _samples_available(self) -> bool:
        return self.replay_buffer is not None and self.replay_buffer.size() > 0

    def _learn_block(self, n_timesteps: int, n_under_way: int) -> None:
        """Makes the updates of a block of steps, the last of which may be under way."""
        if self.num_timesteps + n_under_way > self.learning_starts:
            gradient_steps = self.gradient_steps if self.gradient_steps >= 0 else n_timesteps
            if gradient_steps:
                self.train(gradient_steps, self.batch_size)

    def will_compile(self, total_timesteps: int) -> bool:
        """Says whether a training of so many steps compiles the update."""
        if isinstance(self.observation_space, spaces.Dict):
            return False
        if self.compile != "auto":
            return self.compile
        assert isinstance(self.train_freq, TrainFreq)
        blocks = (total_timesteps - self.learning_starts) / self.train_freq.frequency / self.n_envs
        enough = blocks * max(self.gradient_steps, 1) >= COMPILE_FROM_UPDATES
        return enough and self.device.type == "cpu" and compiler_available()

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Makes so many updates of the online network on samples of the replay."""
        assert self.replay_buffer is not None
        self._update_learning_rate(self.policy.optimizer)
        for first in range(0, gradient_steps, _DRAWN_AT_ONCE):
            n = min(gradient_steps - first, _DRAWN_AT_ONCE)
            samples = self.replay_buffer.sample(n * batch_size, env=self._vec_normalize_env)
            batches = split(samples, batch_size)
            if self._compiles_next:
                self._compile_update(batches[0])
            compiled = self._compiled
            learner = compiled if compiled and compiled.accepts(batches[0]) else self
            for batch in batches:
                gradients, self._train_logs = learner.gradients(batch)
                self._step_optimizer(gradients)
        self._n_updates += gradient_steps

    def _step_optimizer(self, gradients: list[Tensor]) -> None:
        optimizer = self.policy.optimizer
        if isinstance(optimizer, Adam) and isinstance(self.policy, SpectralPolicyMixin):
            optimizer.apply(self._trained, gradients)
            self.policy.after_optimizer_step()
            return
        for parameter, gradient in zip(self._trained, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    def _compile_update(self, batch: ReplayBufferSamples) -> None:
        self._compiles_next = False
        assert isinstance(self._last_obs, np.ndarray)
        observations = torch.as_tensor(self._last_obs, device=self.device)
        try:
            self._compiled = CompiledUpdate(self, batch, observations)
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            warnings.warn(f"The update runs uncompiled, as torch says: {reason}", stacklevel=2)
            return
        if isinstance(self.policy, SpectralPolicyMixin):
            self.policy.compiled_refine = self._compiled.refine

    def gradients(self, batch: ReplayBufferSamples) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Gives the clipped gradient of the loss, one tensor a parameter, and what to log."""
        self.policy.set_training_mode(True)
        loss, logs = self.compute_loss(batch)
        gradients = list(torch.autograd.grad(loss, self._trained, materialize_grads=True))
        if self.max_grad_norm is not None:
            flat = [gradient.flatten() for gradient in gradients]
            norm = logs["grad_norm"] = torch.stack([torch.dot(g, g) for g in flat]).sum().sqrt()
            torch._foreach_mul_(gradients, (self.max_grad_norm / (norm + 1e-6)).clamp_max(1.0))
        self.policy.set_training_mode(False)
        return gradients, {"loss": loss.detach(), **logs}

    def dump_logs(self) -> None:
        """Writes a record of the logs, the newest update's among them."""
        if self._n_updates:
            self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in self._train_logs.items():
            self.logger.record(f"train/{name}", float(value))
        super().dump_logs()

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        if self._vec_normalize_env is not None or isinstance(new_obs, dict):
            super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
            return
        next_obs = new_obs
        if dones.any():
            next_obs = new_obs.copy()
            for index in np.flatnonzero(dones):
                terminal = infos[index].get("terminal_observation")
                next_obs[index] = new_obs[index] if terminal is None else terminal
        replay_buffer.add(self._last_obs, next_obs, buffer_action, reward, dones, infos)
        self._last_obs = new_obs

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
        if self.num_timesteps < learning_starts:
            explore = np.ones(n_envs, dtype=bool)
        else:
            explore = np.random.rand(n_envs) < self.exploration_rate
        actions = np.zeros(n_envs, np.int64) if explore.all() else self._greedy_actions()
        if explore.any():
            space = self.action_space
            assert isinstance(space, spaces.Discrete)
            drawn = space.np_random.integers(int(space.n), size=int(explore.sum()))
            actions[explore] = space.start + drawn
        return actions, actions

    def _greedy_actions(self) -> np.ndarray:
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

    def _excluded_save_params(self) -> list[str]:
        # Tensors of the policy, which is saved already, and what is made anew.
        statistics = ["batch_norm_stats", "batch_norm_stats_target"]
        own = ["_trained", "_compiled", "_compiles_next", "_train_logs"]
        return [*super()._excluded_save_params(), *statistics, *own]


def frames_in(env: Any) -> int:
    """Says of how many frames an environment's observations are a stack; 1 where they are none."""
    while env is not None:
        if isinstance(env, VecFrameStack):
            return int(env.stacked_obs.n_stack)
        if isinstance(env, AtariVecEnv):
            return env.settings.frame_stack
        env = env.venv if isinstance(env, VecEnvWrapper) else None
    return 1


def split(samples: ReplayBufferSamples, size: int) -> list[ReplayBufferSamples]:
    """Gives a sample as batches of so many rows, as views."""
    n = len(samples.rewards) // size

    def chunks(tensor: Tensor) -> tuple[Tensor, ...]:
        return tensor.view(n, size, *tensor.shape[1:]).unbind()  # a fifth of the time of split()

    def parts(value: Any) -> Any:
        if isinstance(value, dict):
            columns = zip(*map(chunks, value.values()), strict=True)
            return [dict(zip(value, row, strict=True)) for row in columns]
        return [None] * n if value is None else chunks(value)

    return [type(samples)(*fields) for fields in zip(*map(parts, samples), strict=True)]


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
