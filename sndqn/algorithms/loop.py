"""The loop that every algorithm shares: act, send, learn, receive.

Stable-Baselines3's own, but for this: each environment of a vector draws its own ε-greedy coin, and
the updates of a block of steps are made while its last step is emulated.
"""

import copy
from typing import Any, Self

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import MaybeCallback, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv

from sndqn.algorithms.target_network import sync_target
from sndqn.algorithms.under_way import StepsToTheEnd


class ActAndLearnLoop(StepsToTheEnd):
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
        log_interval: int | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> BaseCallback:
        """Does what comes before the first block of a training; arguments as `learn`'s."""
        tb_log_name = tb_log_name or type(self).__name__
        self.settle()
        begins_anew = reset_num_timesteps or self.was_moved()
        if begins_anew:
            self.leave_games()
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        if begins_anew:
            self.have_begun()
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
        self.settle_quietly()

    def collect_and_learn(self, callback: BaseCallback, log_interval: int | None) -> bool:
        """Makes the steps of one block and its updates; False where a callback stops training.

        Its local variables bear the names that callbacks find in Stable-Baselines3's.
        """
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
            self.before_acting()
            actions, buffer_actions = self._sample_action(
                learning_starts, action_noise, env.num_envs
            )
            self.send(env, actions, buffer_actions)
            num_collected_steps += 1
            early = by_steps and num_collected_steps == train_freq.frequency
            if early := early and self._can_learn_early():
                self._learn_block(num_collected_steps * env.num_envs, env.num_envs)
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
            self._learn_block(num_collected_steps * env.num_envs, 0)
        return True

    def _can_learn_early(self) -> bool:
        """Says whether updates can be made while a step is under way.

        Not by a replay that asks the environments, as hindsight experience replay does for rewards.
        """
        replay = self.replay_buffer
        return (
            self.overlap and replay is not None and replay.size() > 0 and not hasattr(replay, "env")
        )

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
        previous, original = self._last_obs, new_obs
        last: dict[int, Any] = {}
        if self._vec_normalize_env is not None:
            previous = self._last_original_obs
            original, reward, last = self.originals(new_obs, dones, infos)
        elif dones.any():
            ended = np.flatnonzero(dones).tolist()
            last = {index: infos[index].get("terminal_observation") for index in ended}
        next_obs = copy.deepcopy(original) if last else original
        for index, observation in last.items():
            if observation is not None:
                _put(next_obs, index, observation)
        replay_buffer.add(previous, next_obs, buffer_action, reward, dones, infos)
        self._last_obs, self._last_original_obs = new_obs, original

    def _on_step(self) -> None:
        n_calls = self._n_calls + 1
        if n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            sync_target(self.q_net, self.q_net_target, self.tau)
        self._n_calls = n_calls  # only now: an interrupted sync is made again
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


def _put(observations: Any, index: int, observation: Any) -> None:
    """Writes the observation of one environment among those of all."""
    if isinstance(observations, dict):
        for key, rows in observations.items():
            rows[index] = observation[key]
    else:
        observations[index] = observation
