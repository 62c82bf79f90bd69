"""A step of the environments from its sending to its end, wherever training is interrupted."""

import copy
from contextlib import suppress
from enum import Enum, auto
from typing import Any

import numpy as np
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sndqn.envs.position import Position, clear_answers, reuses_observations
from sndqn.replay.cuts import cut_games, finish_add


class Stage(Enum):
    """How far a step got.

    Attributes:
        NONE: No step is under way.
        IN_DOUBT: A call of the environments is under way. Where it is interrupted, it is unknown
            how far it got: they have to be reset.
        SENT: The environments have the actions.
        RECEIVED: What came of it is here, and counted.
        STORING: The replay is being given it.
        STORED: The replay has it, and the next actions follow from it.
    """

    NONE = auto()
    IN_DOUBT = auto()
    SENT = auto()
    RECEIVED = auto()
    STORING = auto()
    STORED = auto()


class InterruptibleSteps(SB3DQN):
    """Stable-Baselines3's DQN whose steps come to an end, also those that are interrupted.

    Any line can raise: a callback, an environment, an update, Ctrl-C. `finish_step` then does the
    rest of the step: it is received, stored and counted, once; or, in doubt, the environments are
    reset and the replay is told. The same happens if other code has moved the environments.
    """

    _stage = Stage.NONE
    _env_sent_to: VecEnv | None = None
    _known_env: VecEnv | None = None
    _copies = False
    _sent: Any = None
    _received: Any = None
    # What was received as before normalisation, and where the replay is written.
    _originals: Any = None
    _place = 0
    _position: Position | None = None

    def send(self, env: VecEnv, actions: np.ndarray, buffer_actions: np.ndarray) -> None:
        """Has the environments begin a step."""
        if env is not self._known_env:
            self._known_env, self._copies = env, reuses_observations(env)
        self._env_sent_to, self._sent, self._stage = env, buffer_actions, Stage.IN_DOUBT
        env.step_async(actions)
        self._stage = Stage.SENT

    def receive(self) -> VecEnvStepReturn:
        """Gives what came of the step that was sent, and counts it."""
        env: Any = self._env_sent_to
        self._stage = Stage.IN_DOUBT
        received: VecEnvStepReturn = env.step_wait()
        if self._copies:  # a callback may move the environments before the step is stored
            received = (copy.deepcopy(received[0]), *received[1:])
        if self._vec_normalize_env is not None:  # asked now, for the same reason
            self._originals = self._ask_originals(received[2], received[3])
        self._position = Position(env, received[0])
        count = self.num_timesteps + env.num_envs
        # In one line, here and below: an interruption comes before all of it or after.
        self._received, self.num_timesteps, self._stage = received, count, Stage.RECEIVED
        return received

    def complete(self) -> None:
        """Stores what was received, and does what follows each step."""
        new_obs, rewards, dones, infos = self._received
        replay: Any = self.replay_buffer
        if self._stage is Stage.RECEIVED:
            self._place, self._stage = replay.pos, Stage.STORING
            self._store_transition(replay, self._sent, new_obs, rewards, dones, infos)
        elif self._stage is Stage.STORING:
            self._store_again(replay)
        self._stage = Stage.STORED
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        self._on_step()
        self._received, self._stage = None, Stage.NONE
        self._update_info_buffer(infos, dones)

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

    def _store_again(self, replay: Any) -> None:
        """Does what is left of a storing that was interrupted."""
        new_obs = self._received[0]
        if not finish_add(replay, self._place):
            self._store_transition(replay, self._sent, *self._received)
            return
        self._last_obs = self._last_original_obs = new_obs
        if self._vec_normalize_env is not None:
            self._last_original_obs = self._originals[0]
        if isinstance(replay, HerReplayBuffer):  # which may not know yet that a game ended
            cut_games(replay)
            self._last_obs = None

    def finish_step(self) -> None:
        """Ends a step that was under way when training ended.

        Raises:
            TrainingError: The environments have to be reset, and do not answer.
        """
        if self._stage in (Stage.SENT, Stage.IN_DOUBT) and self._env_sent_to is not self.env:
            self._stage = Stage.NONE  # of other environments, left since
        try:
            if self._stage is Stage.SENT:
                self.receive()
            if self._stage not in (Stage.NONE, Stage.IN_DOUBT):
                self.complete()
        except Exception:  # what failed fails again: the step is lost, and nothing else
            self._stage = Stage.IN_DOUBT
        if self._stage is Stage.IN_DOUBT:
            assert self.env is not None
            clear_answers(self.env)
            self._last_obs, self._stage = None, Stage.NONE

    def finish_step_quietly(self) -> None:
        """Finishes a step while another exception is on its way, which none here may hide."""
        with suppress(Exception):
            self.finish_step()

    def was_moved(self) -> bool:
        """Returns whether other code has stepped or reset the environments since the last step.

        Code that assigns another `_last_obs` says where they are, and is believed.
        """
        known, env = self._position, self.env
        if self._last_obs is None:
            return True
        assert env is not None
        if known is None or known.observation is not self._last_obs:
            self._position = Position(env, self._last_obs)
            return False
        return not known.holds(env)

    def leave_games(self) -> None:
        """Prepares environments and replay for a reset."""
        assert self.env is not None
        self._env_sent_to, self._last_obs, self._stage = self.env, None, Stage.IN_DOUBT
        cut_games(self.replay_buffer)
        clear_answers(self.env)

    def have_begun(self) -> None:
        """Takes note that the environments were reset, to `_last_obs`."""
        assert self.env is not None
        self._position = Position(self.env, self._last_obs)
        self._stage = Stage.NONE

    def begin_anew(self) -> None:
        """Resets the environments, and has the replay know."""
        self.leave_games()
        env: Any = self.env
        self._last_obs = env.reset()
        self._last_episode_starts = np.ones(env.num_envs, dtype=bool)
        if self._vec_normalize_env is not None:
            self._last_original_obs = self._vec_normalize_env.get_original_obs()
        self.have_begun()

    def originals(
        self, new_obs: Any, dones: np.ndarray, infos: list[dict[str, Any]]
    ) -> tuple[Any, Any, dict[int, Any]]:
        """Gives observations, rewards and games' last observations as before normalisation."""
        received = self._received
        if received is not None and received[0] is new_obs:
            before: tuple[Any, Any, dict[int, Any]] = self._originals
            return before
        return self._ask_originals(dones, infos)  # a step of another loop

    def _ask_originals(self, dones: np.ndarray, infos: Any) -> tuple[Any, Any, dict[int, Any]]:
        normalize = self._vec_normalize_env
        assert normalize is not None
        last = {i: infos[i].get("terminal_observation") for i in np.flatnonzero(dones).tolist()}
        last = {i: normalize.unnormalize_obs(seen) for i, seen in last.items() if seen is not None}
        return normalize.get_original_obs(), normalize.get_original_reward(), last

    def _excluded_save_params(self) -> list[str]:
        step = ["_stage", "_env_sent_to", "_known_env", "_copies", "_sent", "_received"]
        return [*super()._excluded_save_params(), *step, "_originals", "_place", "_position"]


def _put(observations: Any, index: int, observation: Any) -> None:
    """Writes the observation of one environment among those of all."""
    if isinstance(observations, dict):
        for key, rows in observations.items():
            rows[index] = observation[key]
    else:
        observations[index] = observation
