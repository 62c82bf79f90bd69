"""The base of all algorithms: Stable-Baselines3's DQN with a loop and an update of sndqn's.

Who calls whom, from a training to a gradient:

    learn                 a training: begin_learning, blocks, end_learning
      run_block           steps of all environments, and the updates that belong to them
        _sample_action    ε-greedy actions, the best ones by greedy_actions
        send, receive     a step: the environments begin it, and answer (steps.py)
        train             updates, while the last step of the block is on its way
          draw_samples    samples from the replay, for several updates at once
          update          an update (update.py), or accelerated ones instead (acceleration.py)
            gradients     loss (dqn.py, c51.py, ...), weights, penalty, gradients, clipping
            step          the optimiser's step, and σ of the new weights
        complete          the transition is stored; then _on_step: target network, ε

A variant gives a loss, by `make_loss`, the head that it needs, and the arguments of both.
"""

import math
from abc import abstractmethod
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from sndqn.algorithms.acceleration import Acceleration, is_wanted, require_acceleration
from sndqn.algorithms.exploration import ExplorationName, ExplorationSchedule
from sndqn.algorithms.loss import Loss, Munchausen
from sndqn.algorithms.steps import InterruptibleSteps
from sndqn.algorithms.target_network import sync_target
from sndqn.algorithms.update import Groups, Update, UpdateSettings
from sndqn.envs.frames import frames_in
from sndqn.errors import ConfigError, TrainingError
from sndqn.networks.heads import HeadName
from sndqn.policies import POLICIES, SNDQNPolicy, SpectralPolicyMixin
from sndqn.replay import Batch, FrameRing, PrioritizedFrameRing, as_batch, split

# Adam's first steps move every weight by the learning rate: a power iteration lags by up to 12 % in
# a layer of 256 x 256 at 0.004. Later ones keep within 2 % (docs/data/sigma.json).
CONVERGED_UPDATES = 100
# Batches drawn from the replay at once.
_DRAWN_AT_ONCE = 8


class ValueBasedAlgorithm(InterruptibleSteps):
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

    Attributes:
        update: The update of its online network; `train` renews its settings.
        acceleration: What stands in for it where that is faster.
        refilled_at: Step before which no update is made, because a replay that was not kept is
            filled anew by the agent's own play.

    Raises:
        ConfigError: Flags that cannot go together.
    """

    head: ClassVar[HeadName] = "linear"
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        **InterruptibleSteps.policy_aliases,
        **POLICIES,
    }
    update: Update
    acceleration: Acceleration
    refilled_at: int = 0

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
        """Returns the arguments of the algorithm's head."""
        return {}

    @abstractmethod
    def make_loss(self) -> Loss:
        """Returns the loss, by the attributes as they are now."""

    def target_settings(self) -> tuple[float, bool, Munchausen | None]:
        """Returns the settings that all losses share, in the order of `Loss`."""
        munchausen = Munchausen(**self.munchausen_settings) if self.munchausen else None
        return self.gamma, self.double, munchausen

    def current_settings(self) -> UpdateSettings:
        """Returns what updates go by, by the attributes as they are now."""
        return UpdateSettings(
            self.make_loss(),
            self.max_grad_norm,
            self.gradient_penalty,
            self.gradient_penalty_threshold,
        )

    def make_update(self, groups: Groups | None = None) -> None:
        """Makes `update` anew, and drops what stood in for the last one.

        To be called when networks or optimiser were replaced. Arguments as those of `Update`.
        """
        self.update = Update(self.policy, self.current_settings(), groups)
        self.acceleration = Acceleration(self.update)

    def _setup_model(self) -> None:
        self._check_policy()
        # What was given is kept, and so saved: the rest follows from the settings, which loading
        # may change.
        given = self._choose_replay()
        super()._setup_model()
        self.n_steps, self.replay_buffer_kwargs = given
        self.exploration_schedule: Any = ExplorationSchedule(
            self.exploration_initial_eps,
            self.exploration_final_eps,
            self.exploration_warmup_fraction,
            self.exploration_fraction,
            self.exploration,
        )
        self._train_logs: dict[str, Tensor] = {}
        self.make_update()

    def _choose_replay(self) -> tuple[int, dict[str, Any]]:
        """Sets class and arguments of the replay; returns steps and arguments to keep."""
        n_steps, given = self.n_steps, self.replay_buffer_kwargs
        own_classes = (None, FrameRing, PrioritizedFrameRing)
        if self.replay_buffer_class in own_classes and self._has_one_array():
            self.replay_buffer_class = PrioritizedFrameRing if self.prioritized else FrameRing
            own: dict[str, Any] = {"n_steps": n_steps, "gamma": self.gamma}
            own["frame_stack"] = frames_in(self.env)
            if self.prioritized:
                own.update(self.priority_settings)
            self.replay_buffer_kwargs = {**own, **given}
            self.n_steps = 1  # the replay knows; Stable-Baselines3 would warn that it does not
            return n_steps, {"frame_stack": own["frame_stack"], **given}
        if self.prioritized:
            raise ConfigError(
                "prioritized: needs sndqn's own replay, and observations that are one array"
            )
        if n_steps > 1 and self.replay_buffer_class is None:
            raise ConfigError(
                "n_steps: returns of several steps need observations that are one array, found a "
                "Dict: leave n_steps at 1"
            )
        return n_steps, given

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

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Trains for so many steps, over all environments; arguments as Stable-Baselines3's.

        However it ends, by a callback, an exception or Ctrl-C, the next call finds environments
        and replay in one state: the step under way is in the replay, or else the environments are
        reset.
        """
        callback = self.begin_learning(
            total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
        )
        try:
            while self.num_timesteps < self._total_timesteps:
                if not self.run_block(callback, log_interval):
                    break
        finally:
            self.end_learning()
        callback.on_training_end()
        return self

    def begin_learning(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> BaseCallback:
        """Does what comes before the first block of a training; arguments as `learn`'s."""
        tb_log_name = tb_log_name or type(self).__name__
        self.finish_step()
        begins_anew = reset_num_timesteps or self.was_moved()
        if begins_anew:
            self.leave_games()
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        if begins_anew:
            self.have_begun()
        self.policy.set_training_mode(False)  # as updates leave it
        self._trust_sigma(True)  # which updates and `_on_step` keep current
        self.update.settings = self.current_settings()
        self.acceleration.begin(self.will_compile(total_timesteps - self.num_timesteps))
        # Last, since a callback may give back the state of an earlier training.
        callback.on_training_start(locals(), globals())
        return callback

    def will_compile(self, total_timesteps: int) -> bool:
        """Returns whether a training of so many steps accelerates its updates.

        Raises:
            ConfigError: That is asked for, but the package `sndqn.acceleration` is missing.
        """
        assert isinstance(self.train_freq, TrainFreq)
        blocks = (total_timesteps - self.learning_starts) / self.train_freq.frequency / self.n_envs
        n_updates = blocks * max(self.gradient_steps, 1)
        return is_wanted(self.compile, n_updates, self.device) and self._has_one_array()

    def end_learning(self) -> None:
        """Removes the noise, has layers check σ again, and finishes the step under way."""
        if isinstance(self.policy, SNDQNPolicy):
            self.policy.remove_noise()
        self._trust_sigma(False)
        self.finish_step_quietly()

    def _trust_sigma(self, trusts: bool) -> None:
        if isinstance(self.policy, SpectralPolicyMixin):
            self.policy.trust_sigma(trusts)

    def run_block(self, callback: BaseCallback, log_interval: int | None = None) -> bool:
        """Makes a block of steps and its updates; False where a callback stops training.

        Its local variables bear the names that callbacks find in Stable-Baselines3's.
        """
        callback.on_rollout_start()
        env, train_freq, replay_buffer = self.env, self.train_freq, self.replay_buffer
        learning_starts, action_noise = self.learning_starts, self.action_noise
        assert isinstance(env, VecEnv)
        assert isinstance(train_freq, TrainFreq)
        by_steps = train_freq.unit == TrainFrequencyUnit.STEP
        assert by_steps or env.num_envs == 1, "Episodic training takes one environment."
        num_collected_steps = num_collected_episodes = 0
        continue_training = True
        while (num_collected_steps if by_steps else num_collected_episodes) < train_freq.frequency:
            if self.was_moved():
                self.begin_anew()
                env, replay_buffer = self.env, self.replay_buffer
            self.update.draw_noise()
            actions, buffer_actions = self._sample_action(
                learning_starts, action_noise, env.num_envs
            )
            self.send(env, actions, buffer_actions)
            num_collected_steps += 1
            early = by_steps and num_collected_steps == train_freq.frequency
            if early := early and self._can_train_early():
                self._train_for_block(num_collected_steps * env.num_envs, env.num_envs)
            new_obs, rewards, dones, infos = self.receive()
            callback.update_locals(locals())
            continue_training = callback.on_step()
            self.complete()
            for idx, done in enumerate(dones):  # noqa: B007  # callbacks find it
                if done:
                    num_collected_episodes += 1
                    self._episode_num += 1
                    if log_interval is not None and self._episode_num % log_interval == 0:
                        self.dump_logs()
            if not continue_training:
                return False
        if not early:
            self._train_for_block(num_collected_steps * env.num_envs, 0)
        callback.on_rollout_end()
        return True

    def _can_train_early(self) -> bool:
        """Says whether updates can be made while a step is under way.

        Not by a replay that asks the environments, as hindsight experience replay does for rewards.
        """
        replay = self.replay_buffer
        return (
            self.overlap and replay is not None and replay.size() > 0 and not hasattr(replay, "env")
        )

    def _train_for_block(self, n_timesteps: int, n_under_way: int) -> None:
        """Makes the updates of a block of steps, the last of which may be under way."""
        if self.num_timesteps + n_under_way > max(self.learning_starts, self.refilled_at):
            gradient_steps = self.gradient_steps if self.gradient_steps >= 0 else n_timesteps
            if gradient_steps:
                self.train(gradient_steps, self.batch_size)

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
        actions = np.zeros(n_envs, np.int64) if explore.all() else self.greedy_actions()
        if explore.any():
            space = self.action_space
            assert isinstance(space, spaces.Discrete)
            drawn = space.np_random.integers(int(space.n), size=int(explore.sum()))
            actions[explore] = space.start + drawn
        return actions, actions

    def greedy_actions(self) -> np.ndarray:
        """Returns the best action for each environment's last observation."""
        assert self._last_obs is not None
        observations = obs_as_tensor(self._last_obs, self.device)
        actions = self.acceleration.greedy_actions(observations)
        if actions is None:
            with torch.no_grad():
                actions = self.policy._predict(observations, deterministic=True)
        return actions.cpu().numpy()

    def _on_step(self) -> None:
        n_calls = self._n_calls + 1
        if n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            sync_target(self.q_net, self.q_net_target, self.tau)
        self._n_calls = n_calls  # only now: an interrupted sync is made again
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Makes so many updates of the online network on samples of the replay."""
        self._update_learning_rate(self.policy.optimizer)
        self.update.settings = self.current_settings()
        n_converging = max(CONVERGED_UPDATES - self._n_updates, 0)
        at_once = self._n_drawn_at_once
        for first in range(0, gradient_steps, at_once):
            n_updates = min(gradient_steps - first, at_once)
            samples = self.draw_samples(n_updates * batch_size)
            if self.acceleration.due:
                self.acceleration.prepare(samples, n_updates, self._last_obs)
            last = self.acceleration.run_updates(samples, n_updates, n_converging)
            if last is None:
                for index, batch in enumerate(split(samples, batch_size)):
                    last = self.update(batch, converge=index < n_converging)
            assert last is not None
            priorities, self._train_logs = last
            if self.prioritized:
                buffer: Any = self.replay_buffer
                buffer.update_priorities(buffer.sampled, priorities)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if self.device.type == "cpu":  # elsewhere at each record: looking would wait for the device
            self._check_loss()

    @property
    def _n_drawn_at_once(self) -> int:
        """Batches that are drawn at once: one where its priorities decide on the next."""
        return 1 if self.prioritized else _DRAWN_AT_ONCE

    def draw_samples(self, n_samples: int) -> Batch:
        """Draws samples by NumPy's global generator, the loss's own numbers by torch's."""
        buffer: Any = self.replay_buffer
        if self.prioritized:
            start = self.priority_settings["importance_exponent"]
            buffer.beta = 1 - (1 - start) * max(self._current_progress_remaining, 0.0)
        samples = as_batch(buffer.sample(n_samples, env=self._vec_normalize_env))
        n_random = self.update.settings.loss.n_random
        if n_random:
            random = torch.rand(n_samples, n_random, device=self.device)
            samples = samples._replace(random=random)
        return samples

    def prepare_acceleration(self) -> None:
        """Prepares accelerated updates ahead of the first `train`; draws samples like it."""
        self.update.settings = self.current_settings()
        n_updates = min(max(self.gradient_steps, 1), self._n_drawn_at_once)
        samples = self.draw_samples(n_updates * self.batch_size)
        self.acceleration.prepare(samples, n_updates, self._last_obs)

    def _check_loss(self) -> None:
        loss = float(self._train_logs.get("loss", 0.0))
        self.logger.record("train/loss", loss)
        if not math.isfinite(loss):
            raise TrainingError(
                f"step {self.num_timesteps}, update {self._n_updates}: expected a finite loss, "
                f"found {loss}. A lower --learning-rate, or --max-grad-norm, may help"
            )

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
        own = ["update", "acceleration", "_train_logs"]
        return [*super()._excluded_save_params(), *statistics, *own]
