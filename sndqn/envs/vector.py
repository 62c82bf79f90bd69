"""Vectorised environments for Stable-Baselines3, with little work around each step."""

import copy
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from sndqn.errors import ConfigError


def derive_seeds(seed: int, n_envs: int) -> list[int]:
    """Derives one seed per environment, each in [0, 2**31), the range of the emulator.

    Unlike `seed + i`, neighbouring seeds share no environment. The first n seeds are the same for
    every number of environments.

    Raises:
        ConfigError: The seed is negative.
    """
    if seed < 0:
        raise ConfigError(f"seed: expected 0 or more, found {seed}")
    children = (np.random.SeedSequence([seed, index]) for index in range(n_envs))
    return [int(child.generate_state(1)[0]) >> 1 for child in children]


class SeededVecEnv(VecEnv):
    """A VecEnv whose games are reproducible one by one and reported as by SB3's `Monitor`.

    At the true end of a game, and only there, `infos[i]["episode"]` holds `r`, its raw score, `l`,
    its length in steps, and `t`, the seconds since the environments were made.
    """

    def __init__(
        self, num_envs: int, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        super().__init__(num_envs, observation_space, action_space)
        self._start_time = time.time()
        self._returns = [0.0] * num_envs
        self._lengths = [0] * num_envs

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Returns each environment a seed derived from `seed`, to take effect at the next reset."""
        if seed is None:
            # Never from NumPy's global stream: drawing a seed must not change a user's numbers.
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self._seeds = list(derive_seeds(seed, self.num_envs))
        return self._seeds

    @abstractmethod
    def reset_envs(self, indices: Sequence[int], seeds: Sequence[int]) -> VecEnvObs:
        """Starts seeded games in some environments and leaves the others where they are.

        From here on those environments repeat exactly what the same seed and actions gave
        before, whatever they had played. Unfinished games there are dropped, not reported.

        Returns:
            The current observations of all environments.
        """

    def _begin_episode(self, index: int) -> None:
        self._returns[index] = 0.0
        self._lengths[index] = 0

    def _end_episode(self, index: int) -> dict[str, float]:
        """Returns Monitor's record of the game that just ended, and starts counting anew."""
        record = {
            "r": round(self._returns[index], 6),
            "l": self._lengths[index],
            "t": round(time.time() - self._start_time, 6),
        }
        self._begin_episode(index)
        return record


class SmallVecEnv(SeededVecEnv):
    """Several cheap environments stepped in turn, in this process.

    It does what `DummyVecEnv` around `Monitor` does, without their deep copies and with one buffer
    per step, so that it adds little to environments that take microseconds. Arrays and infos that
    it returns are the caller's.

    Args:
        envs: Distinct environments with equal spaces: Box, Discrete, MultiDiscrete or
            MultiBinary observations, or a Dict of these.

    Attributes:
        actions: Those of the newest step.
    """

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]]) -> None:
        if len({id(env.unwrapped) for env in envs}) != len(envs) or not envs:
            raise ConfigError("SmallVecEnv takes one or more environments, each made separately.")
        self.envs = list(envs)
        super().__init__(len(envs), envs[0].observation_space, envs[0].action_space)
        self.metadata = envs[0].metadata
        self._observations = self._new_observations()
        self.actions: list[Any] = []

    def _new_observations(self) -> Any:
        """Returns an array, or a dict of arrays, with room for one observation per environment."""
        space = self.observation_space
        if isinstance(space, spaces.Dict):
            return {key: self._empty_batch(part) for key, part in space.items()}
        return self._empty_batch(space)

    def _empty_batch(self, space: spaces.Space[Any]) -> np.ndarray[Any, Any]:
        assert space.shape is not None
        return np.empty((self.num_envs, *space.shape), space.dtype)

    def _put(self, index: int, observation: Any) -> None:
        """Copies one environment's observation into its row."""
        if isinstance(self._observations, dict):
            for key, rows in self._observations.items():
                rows[index] = observation[key]
        else:
            self._observations[index] = observation

    def reset(self) -> VecEnvObs:
        """Starts a game everywhere, with the seeds and options given since the last reset."""
        self._observations = self._new_observations()
        for index, env in enumerate(self.envs):
            options = self._options[index] or None
            observation, self.reset_infos[index] = env.reset(
                seed=self._seeds[index], options=options
            )
            self._put(index, observation)
            self._begin_episode(index)
        self._reset_seeds()
        self._reset_options()
        observations: VecEnvObs = self._observations
        return observations

    def reset_envs(self, indices: Sequence[int], seeds: Sequence[int]) -> VecEnvObs:
        """Starts seeded games in some environments and leaves the others where they are."""
        self._options = list(self._options)  # another list, as after any reset
        self._observations = copy.deepcopy(self._observations)
        for index, seed in zip(indices, seeds, strict=True):
            observation, self.reset_infos[index] = self.envs[index].reset(seed=seed)
            self._put(index, observation)
            self._begin_episode(index)
        observations: VecEnvObs = self._observations
        return observations

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Remembers the actions; nothing runs before `step_wait`."""
        # Python numbers: environments check and use them faster than NumPy's.
        self.actions = np.asarray(actions).tolist()

    def step_wait(self) -> VecEnvStepReturn:
        """Steps every environment; one that is done starts its next game in the same step."""
        self._observations = self._new_observations()
        rewards = np.empty(self.num_envs, np.float32)
        dones = np.zeros(self.num_envs, np.bool_)
        infos: list[dict[str, Any]] = []
        for index, action in enumerate(self.actions):
            observation, reward, terminated, truncated, info = self.envs[index].step(action)
            info = {**info, "TimeLimit.truncated": truncated and not terminated}
            rewards[index] = reward
            self._returns[index] += float(reward)
            self._lengths[index] += 1
            if terminated or truncated:
                dones[index] = True
                info["episode"] = self._end_episode(index)
                # A copy, since the reset may write into the array that the environment gave us.
                info["terminal_observation"] = copy.deepcopy(observation)
                observation, self.reset_infos[index] = self.envs[index].reset()
            self._put(index, observation)
            infos.append(info)
        return self._observations, rewards, dones, infos

    def close(self) -> None:
        """Closes every environment."""
        for env in self.envs:
            env.close()

    def get_images(self) -> Sequence[np.ndarray[Any, Any] | None]:
        """Returns what each environment renders."""
        return [env.render() for env in self.envs]  # type: ignore[misc]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns an attribute of each environment, looked for through its wrappers."""
        return [env.get_wrapper_attr(attr_name) for env in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute where each environment, or the wrapper that has it, keeps it."""
        for env in self._chosen(indices):
            env.set_wrapper_attr(attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Calls a method of each environment; returns the results."""
        methods = self.get_attr(method_name, indices)
        return [method(*method_args, **kwargs) for method in methods]

    def env_is_wrapped(
        self,
        wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]],
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """Returns whether each environment has a wrapper; the work of `Monitor` is done here."""
        chosen = self._chosen(indices)
        return [wrapper_class is Monitor or is_wrapped(env, wrapper_class) for env in chosen]

    def _chosen(self, indices: VecEnvIndices) -> list[gymnasium.Env[Any, Any]]:
        return [self.envs[index] for index in self._get_indices(indices)]
