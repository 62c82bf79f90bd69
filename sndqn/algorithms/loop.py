"""The loop that every algorithm shares: act, send, learn, receive.

Stable-Baselines3's own, but for this: each environment of a vector draws its own ε-greedy coin, and
the updates of a block of steps are made while its last step is emulated.
"""

from typing import Any, Self

import numpy as np
from gymnasium import spaces
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import MaybeCallback, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv

from sndqn.algorithms.target_network import sync_target


class ActAndLearnLoop(SB3DQN):
    """Stable-Baselines3's DQN with a loop of its own; what is learnt, subclasses say.

    Attributes:
        overlap: Whether the updates of a block are made while its last step is emulated.
    """

    overlap: bool

    def greedy_actions(self) -> np.ndarray:
        """Gives the best action for each environment's last observation."""
        raise NotImplementedError

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str = "run",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Trains for so many steps, over all environments; arguments as Stable-Baselines3's."""
        callback = self.begin_learning(
            total_timesteps, callback, tb_log_name, reset_num_timesteps, progress_bar
        )
        try:
            while self.num_timesteps < self._total_timesteps:
                if not self.learn_block(callback, log_interval):
                    break
        finally:
            self.after_learning()
        callback.on_training_end()
        return self

    def begin_learning(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        tb_log_name: str = "run",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> BaseCallback:
        """Does what comes before the first block of a training; arguments as `learn`'s."""
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        self.policy.set_training_mode(False)  # as updates leave it
        self.before_learning(total_timesteps - self.num_timesteps)
        # Last, since a callback may give back the state of an earlier training.
        callback.on_training_start(locals(), globals())
        return callback

    def learn_block(self, callback: BaseCallback, log_interval: int | None = None) -> bool:
        """Makes one block of steps and its updates; False where a callback stops training."""
        callback.on_rollout_start()
        if not self.collect_and_learn(callback, log_interval):
            return False
        callback.on_rollout_end()
        return True

    def before_learning(self, total_timesteps: int) -> None:
        """Prepares a training of so many steps."""

    def before_acting(self) -> None:
        """Prepares each choice of actions."""

    def after_learning(self) -> None:
        """Ends what `before_learning` began, also where training is interrupted."""

    def collect_and_learn(self, callback: BaseCallback, log_interval: int | None) -> bool:
        """Makes the steps of one block and its updates; False where a callback stops training."""
        env, train_freq = self.env, self.train_freq
        assert isinstance(env, VecEnv)
        assert isinstance(train_freq, TrainFreq)
        by_steps = train_freq.unit == TrainFrequencyUnit.STEP
        assert by_steps or env.num_envs == 1, "Episodic training takes one environment."
        n_steps = n_episodes = 0
        while (n_steps if by_steps else n_episodes) < train_freq.frequency:
            self.before_acting()
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
        actions = np.zeros(n_envs, np.int64) if explore.all() else self.greedy_actions()
        if explore.any():
            space = self.action_space
            assert isinstance(space, spaces.Discrete)
            drawn = space.np_random.integers(int(space.n), size=int(explore.sum()))
            actions[explore] = space.start + drawn
        return actions, actions
