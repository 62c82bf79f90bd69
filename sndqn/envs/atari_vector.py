"""Atari for training: Stable-Baselines3's VecEnv over ale-py's threads of emulators."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from sndqn.envs.atari import make_emulator
from sndqn.envs.atari_fire import FiringEmulators
from sndqn.envs.settings import AtariSettings
from sndqn.envs.vector import SeededVecEnv
from sndqn.errors import ConfigError


@contextmanager
def _threads_wait_their_turn() -> Iterator[None]:
    """Starts the threads made within it under SCHED_BATCH, where the system has that policy.

    Such a thread preempts no other when it wakes. An emulator that preempts one of the two threads
    of an update would make the other one wait as well.
    """
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield
        return
    with suppress(PermissionError):  # a sandbox may leave the policy to no one
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class AtariVecEnv(SeededVecEnv):
    """Several emulators of one game, stepped together in threads of their own.

    Observations are uint8 of shape (n_envs, frame_stack, screen_size, screen_size), newest frame
    last. An environment whose game ends starts the next one in the same step. In training, and
    where the protocol says so, a lost life is a `done` as well: the game goes on, so there
    `terminal_observation` is the returned observation itself and no `episode` is reported. Under
    `fire_reset` the game goes on from where FIRE leads, and the stack begins anew.

    `infos[i]` has `lives` (as of the returned observation), `TimeLimit.truncated` and, when done,
    `terminal_observation`. A game that reaches the cap in the very step of a lost life counts as
    terminated in training.

    Emulation begins in `step_async` and overlaps with what the caller does before `step_wait`.
    Where an exception, such as Ctrl-C, interrupts a call, the next reset makes the emulators anew.

    Args:
        settings: The game and its protocol.
        n_envs: Number of emulators.
        training: Whether life losses end episodes and rewards are clipped, as the settings say.
            Scores in `infos[i]["episode"]` are raw and of whole games either way.
        num_threads: Emulation threads; None means one per environment, at most one per core.
    """

    render_mode: str | None = None

    def __init__(
        self,
        settings: AtariSettings,
        n_envs: int = 1,
        *,
        training: bool = True,
        num_threads: int | None = None,
    ) -> None:
        if n_envs < 1:
            raise ConfigError(f"n_envs: expected 1 or more, found {n_envs}")
        self.settings = settings
        self._clips_rewards = training and settings.clip_rewards
        self._arguments: dict[str, Any] = {
            "num_envs": n_envs,
            "life_loss_info": training and settings.life_loss,
            "num_threads": num_threads or min(n_envs, os.cpu_count() or 1),
            "autoreset_mode": "SameStep",
        }
        self._make_emulator()
        super().__init__(
            n_envs, self._emulator.single_observation_space, self._emulator.single_action_space
        )
        self._fires = isinstance(self._emulator, FiringEmulators)
        self._n_actions = len(self.get_action_meanings())
        self._game_starts = np.zeros(n_envs, np.int32)
        self._was_seeded = False

    def _make_emulator(self) -> None:
        with _threads_wait_their_turn():
            self._emulator = make_emulator(self.settings, **self._arguments)
        self._is_stepping = False
        # Whether a call of the emulators is under way. If it is interrupted, it is unknown how
        # far it got; and to wait for a step that was never sent would take forever.
        self._is_in_doubt = False

    def reset(self) -> VecEnvObs:
        """Starts a game everywhere; with seeds, if `seed` was called since the last reset."""
        if not self._was_seeded and self._seeds[0] is None:
            self.seed()
        seeds = None if self._seeds[0] is None else np.array(self._seeds, np.int64)
        observations = self._restart(range(self.num_envs), seeds)
        self._was_seeded = True
        self._reset_seeds()
        self._reset_options()
        return observations

    def reset_envs(self, indices: Sequence[int], seeds: Sequence[int]) -> VecEnvObs:
        """Starts seeded games in some environments and leaves the others where they are."""
        # ale-py pairs seeds with environments in ascending order.
        pairs = sorted(zip(indices, seeds, strict=True))
        chosen = [index for index, _ in pairs]
        return self._restart(chosen, np.array([seed for _, seed in pairs], np.int64))

    def _restart(
        self, indices: Sequence[int], seeds: npt.NDArray[np.int64] | None
    ) -> npt.NDArray[np.uint8]:
        if self._is_in_doubt:
            self._make_emulator()
            fresh = np.random.SeedSequence().generate_state(self.num_envs) >> 1
            self._emulator.reset(seed=fresh.astype(np.int64))
        elif self._is_stepping:
            self.step_wait()
        mask = np.zeros(self.num_envs, np.bool_)
        mask[list(indices)] = True
        self._options = list(self._options)  # another list, as after any reset
        self._is_in_doubt = True
        observations, info = self._emulator.reset(seed=seeds, options={"reset_mask": mask})
        self._is_in_doubt = False
        self._game_starts = info["frame_number"] - info["episode_frame_number"]
        for index in indices:
            self._begin_episode(index)
            self._returns[index] += info["extra"][index] if "extra" in info else 0.0
        result: npt.NDArray[np.uint8] = observations
        return result

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Lets the emulators start on the actions, integers of shape (n_envs,)."""
        self.actions = actions = np.array(actions, np.int64)
        # ale-py waits forever for the result of an action that does not exist.
        if actions.min() < 0 or actions.max() >= self._n_actions:
            raise ConfigError(
                f"{self.settings.name} has actions 0 to {self._n_actions - 1}, found {actions}."
            )
        self._is_in_doubt = True
        self._emulator.send(actions)
        self._is_stepping, self._is_in_doubt = True, False

    def step_wait(self) -> VecEnvStepReturn:
        """Returns what the actions led to; the arrays are new at every step."""
        self._is_in_doubt = True
        observations, rewards, terminated, truncated, info = self._emulator.recv()
        self._is_stepping, self._is_in_doubt = False, False
        infos = [{"lives": lives, "TimeLimit.truncated": False} for lives in info["lives"].tolist()]
        for index, reward in enumerate(rewards.tolist()):
            self._returns[index] += reward
            self._lengths[index] += 1
        dones = terminated | truncated
        if dones.any():
            self._report_ends(observations, dones, truncated, info, infos)
        if self._clips_rewards:
            rewards = np.clip(rewards, -1, 1)
        return observations, rewards.astype(np.float32), dones, infos

    def _report_ends(
        self,
        observations: npt.NDArray[np.uint8],
        dones: npt.NDArray[np.bool_],
        truncated: npt.NDArray[np.bool_],
        info: dict[str, Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Adds to the infos of done environments what SB3 expects of them.

        ale-py's flags do not tell a game's end from a lost life, its lives are those of the next
        game, and `final_obs` is filled for ended games only. But the frame at which the current
        game began changes exactly when a game ends.
        """
        starts = info["frame_number"] - info["episode_frame_number"]
        for index in np.flatnonzero(dones).tolist():
            ended = starts[index] != self._game_starts[index]
            final = info["final_obs"] if ended or self._fires else observations
            infos[index]["terminal_observation"] = final[index]
            if self._fires:
                self._returns[index] += info["extra_before"][index]
            if ended:
                infos[index]["TimeLimit.truncated"] = bool(truncated[index])
                infos[index]["episode"] = self._end_episode(index)
            if self._fires:
                self._returns[index] += info["extra"][index]
        self._game_starts = starts

    def close(self) -> None:
        """Finishes a step under way, and nothing else: the emulators end with the object."""
        if self._is_stepping and not self._is_in_doubt:
            self.step_wait()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns an attribute of this object per environment: the emulators have none."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuses: the settings decide everything about the emulators."""
        raise NotImplementedError(f"AtariVecEnv takes {attr_name} from its settings only.")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Calls a method of this object per environment: the emulators have none."""
        methods = self.get_attr(method_name, indices)
        return [method(*method_args, **kwargs) for method in methods]

    def get_action_meanings(self) -> list[str]:
        """Returns the actions' names, such as NOOP and UPFIRE, in the order of their numbers."""
        return [action.name for action in self._emulator.ale.get_action_set()]

    def env_is_wrapped(
        self,
        wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]],
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """Returns False but for `Monitor`, whose work is done here."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]
