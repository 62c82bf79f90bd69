"""A replay buffer that keeps each frame once: 7 kB per Atari transition instead of 56."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from sndqn.errors import ConfigError, UnsupportedSpaceError
from sndqn.replay.batch import Batch
from sndqn.replay.rows import Array, Flags, Indices, RecycledRows, replace_rows
from sndqn.replay.stacks import FrameStacks


class FrameRing(ReplayBuffer):
    """Stable-Baselines3's replay buffer and its n-step variant, without their redundancy.

    With the same NumPy seed and history it gives the very batches that theirs give, except for
    the next observations of terminated transitions, which no target looks at. A step takes one
    frame per environment; what follows a transition is the next one's observation. Only where it is
    not, at a timeout or a reset within a game, is it kept on the side.

    Args:
        buffer_size: Transitions in all; each environment gets an equal part, rounded down.
        observation_space: Box, Discrete, MultiDiscrete or MultiBinary.
        action_space: Discrete, counted from 0.
        device: Where the frames are kept and samples come out; "auto" is a GPU if there is one.
        n_envs: Environments that are stepped together.
        optimize_memory_usage: For Stable-Baselines3, which passes it; memory is always saved.
        handle_timeout_termination: Whether episodes cut by a time limit do not count as done.
        frame_stack: Frames per observation, stacked along its first dimension, newest last.
        n_steps: Rewards summed per transition, up to the end of its episode.
        gamma: Discount of these sums.

    Attributes:
        padding: What precedes a game's first frame in a stack, "zeros" or "repeat"; None until
            a new game has shown it.

    Raises:
        UnsupportedSpaceError: A space is none of these.
        ConfigError: A number is out of range; in `add`, an observation is not the stack it should.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        frame_stack: int = 1,
        n_steps: int = 1,
        gamma: float = 0.99,
    ) -> None:
        _check_spaces(observation_space, action_space)
        for name, value, highest in (("frame_stack", frame_stack, 255), ("n_steps", n_steps, None)):
            if value < 1 or (highest and value > highest):
                limits = f"between 1 and {highest}" if highest else "1 or more"
                raise ConfigError(f"{name}: expected {limits}, found {value}")
        # Not ReplayBuffer's own, which would allocate its arrays.
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.frame_stack, self.n_steps, self.gamma = frame_stack, n_steps, float(gamma)
        self._allocate()

    # Where an `add` under way began; it stays where one is interrupted.
    _mark: Any = None

    def _allocate(self) -> None:
        """Makes empty storage. The few bytes per step besides the frames stay with the CPU."""
        dtype, shape = np.dtype(self.observation_space.dtype), self.obs_shape
        length, n_envs = self.buffer_size, self.n_envs
        self._stacks = FrameStacks(length, n_envs, self.frame_stack, shape, dtype, self._device)
        self._places = np.zeros(length, np.int64)
        # Next observations that the stacks do not hold, and by transition their numbers there.
        self._kept = RecycledRows(shape, dtype, self._device)
        self._kept_numbers = np.full((length, n_envs), -1, np.int32)
        assert isinstance(self.action_space, spaces.Discrete)
        action_dtype = np.min_scalar_type(int(self.action_space.n) - 1)
        self.actions = np.zeros((length, n_envs), action_dtype)
        self.rewards = np.zeros((length, n_envs), np.float32)
        self.dones = np.zeros((length, n_envs), np.bool_)
        self.timeouts = np.zeros((length, n_envs), np.bool_)

    @property
    def device(self) -> torch.device:
        """Where the frames are kept and samples come out; assigning it moves them."""
        return self._device

    @device.setter
    def device(self, device: torch.device | str) -> None:
        self._device = get_device(device)
        if "_stacks" in self.__dict__:  # not yet while the base class is set up
            self._stacks.frames.to(self._device)
            self._kept.rows.to(self._device)

    @property
    def padding(self) -> str | None:
        """What precedes a game's first frame in a stack; None until a new game has shown it."""
        return self._stacks.padding

    @property
    def observations(self) -> Array:  # type: ignore[override]
        """All observations, as Stable-Baselines3 lays them out: a new array, and a large one."""
        return self._all_observations(0)

    @property
    def next_observations(self) -> Array:  # type: ignore[override]
        """What followed them, as `observations`; after a terminated game, anything."""
        return self._all_observations(1)

    def _all_observations(self, which: int) -> Array:
        found = np.zeros((self.buffer_size, self.n_envs, *self.obs_shape), self._stacks.dtype)
        for index in range(self.size()):
            envs = np.arange(self.n_envs)
            indices = np.full(self.n_envs, index)
            found[index] = self._observations(indices, indices, envs)[which].cpu().numpy()
        return found

    @property
    def nbytes_per_transition(self) -> float:
        """Bytes of memory per transition once the ring is full, kept observations aside."""
        arrays = (self.actions, self.rewards, self.dones, self.timeouts)
        total = self._stacks.nbytes + self._kept_numbers.nbytes + self._places.nbytes
        total += sum(array.nbytes for array in arrays)
        return total / (self.buffer_size * self.n_envs)

    def reset(self) -> None:
        """Forgets all transitions."""
        # Sums of rewards multiply by 0 what lies beyond the newest: it must be finite, and +0.
        self.rewards[: self.size()] = 0
        super().reset()
        self._mark = None
        self._stacks.clear()
        self._kept.clear()
        self._kept_numbers.fill(-1)

    def add(
        self,
        obs: Array,
        next_obs: Array,
        action: Array,
        reward: Array,
        done: Array,
        infos: list[dict[str, Any]],
    ) -> None:
        """Appends a transition of every environment, as Stable-Baselines3 gives them.

        Args:
            obs: Shape (n_envs, *observation shape).
            next_obs: What the step led to; at the end of an episode its last observation.
            action: Shape (n_envs,) or (n_envs, 1).
            reward: Shape (n_envs,).
            done: Whether an episode ended, shape (n_envs,).
            infos: Of these `TimeLimit.truncated` is looked at, where an episode ended.
        """
        if self._mark is not None:  # an interrupted call: to be made again from where it began
            self._stacks.mark = self._mark
        self._mark = self._stacks.mark
        self._write(obs, next_obs, action, reward, np.asarray(done, np.bool_), infos)
        end = self.pos + 1
        full = self.full or end == self.buffer_size
        # In one line, which no interruption parts: this is when the transition counts.
        self.full, self.pos, self._mark = full, end % self.buffer_size, None

    def _write(
        self,
        obs: Array,
        next_obs: Array,
        action: Array,
        reward: Array,
        ended: Flags,
        infos: list[dict[str, Any]],
    ) -> None:
        """Writes a transition where the next one belongs, to the same effect if done twice."""
        next_obs = self._as_batch(next_obs)
        place, lost = self._stacks.push(self._as_batch(obs), next_obs, ended)
        if lost is not None:
            self._keep_last(lost.envs, lost.observations)
        self._release(self.pos)
        self._places[self.pos] = place
        self.actions[self.pos] = action.reshape(self.n_envs)
        self.rewards[self.pos] = reward
        self.dones[self.pos] = ended
        self.timeouts[self.pos] = False
        if self.handle_timeout_termination and ended.any():
            self._add_timeouts(next_obs, ended, infos)

    def cut(self) -> None:
        """Takes note that the games under way were left: what is added next begins others."""
        if self._mark is not None:
            self._stacks.mark, self._mark = self._mark, None
        if self.size():
            left = self._keep_last(np.arange(self.n_envs), self._stacks.expected())
            self.dones[self.pos - 1, left] = self.timeouts[self.pos - 1, left] = True

    def _keep_last(self, envs: Indices, observations: Array) -> Indices:
        """Keeps what the newest transitions led to, where no game ended; give where that is."""
        going_on: Flags = ~self.dones[self.pos - 1, envs]
        self._keep(self.pos - 1, envs[going_on], observations[going_on])
        left: Indices = envs[going_on]
        return left

    def _add_timeouts(self, next_obs: Array, ended: Flags, infos: list[dict[str, Any]]) -> None:
        """Keeps what was cut by a time limit: the next game's start takes its place in the ring."""
        endings = np.flatnonzero(ended).tolist()
        cut = [i for i in endings if infos[i].get("TimeLimit.truncated", False)]
        self.timeouts[self.pos, cut] = True
        self._keep(self.pos, np.array(cut, np.int64), next_obs[cut])

    def _as_batch(self, observations: Array) -> Array:
        batch: Array = np.ascontiguousarray(observations, self.observation_space.dtype)
        return batch.reshape(self.n_envs, *self.obs_shape)

    def _keep(self, index: int, envs: Indices, observations: Array) -> None:
        if len(envs):
            self._kept_numbers[index, envs] = self._kept.keep(observations)

    def _release(self, index: int) -> None:
        """Drops what was kept for the transitions about to be overwritten."""
        if self._kept.n_kept:
            numbers = self._kept_numbers[index]
            kept = numbers[numbers >= 0]
            numbers.fill(-1)  # before the rows are free: none may have two owners
            self._kept.release(kept)

    def _get_samples(self, batch_inds: Indices, env: VecNormalize | None = None) -> Any:
        envs = np.random.randint(0, high=self.n_envs, size=len(batch_inds))
        return self.gather(batch_inds, envs, env)

    def gather(self, indices: Indices, envs: Indices, env: VecNormalize | None = None) -> Batch:
        """Returns chosen transitions, as `sample` gives random ones.

        With n_steps=1, stacked observations share memory with their next ones: do not write there.

        Args:
            indices: What `pos` was when each was added, shape (batch,).
            envs: Which environment's it is, shape (batch,).
            env: Normalises observations and rewards.
        """
        where = indices * self.n_envs + envs
        actions = self.actions.take(where).astype(self.action_space.dtype)
        last, discounts = indices, None
        if self.n_steps == 1:
            rewards = self._normalize_reward(self.rewards.take(where)[:, None], env)
        else:
            rewards, last, discounts = self._n_step_returns(indices, envs, env)
        ends = where if last is indices else last * self.n_envs + envs
        done = (self.dones.take(ends) > self.timeouts.take(ends)).astype(np.float32)
        observations, next_observations = self._observations(indices, last, envs)
        if env is not None:
            observations = self._normalized(observations, env)
            next_observations = self._normalized(next_observations, env)
        return Batch(
            observations,
            self._to_device(actions[:, None]),
            next_observations,
            self._to_device(done[:, None]),
            self._to_device(rewards),
            None if discounts is None else self._to_device(discounts),
        )

    def _to_device(self, array: Array) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self._device.type == "cpu" else tensor.to(self._device)

    def _normalized(self, observations: Tensor, env: VecNormalize) -> Tensor:
        array = self._normalize_obs(observations.cpu().numpy(), env)
        assert isinstance(array, np.ndarray)
        return self._to_device(array)

    def _observations(
        self, indices: Indices, last: Indices, envs: Indices
    ) -> tuple[Tensor, Tensor]:
        """Returns the observations at `indices` and what followed those at `last`."""
        places = self._places.take(indices) + envs
        if last is indices:
            observations, following = self._stacks.read_both(places)
        else:
            observations = self._stacks.read(places)
            following = self._stacks.read_next(self._places.take(last) + envs)
        if self._kept.n_kept:
            kept = self._kept_numbers.take(last * self.n_envs + envs).astype(np.int64)
            rows = np.flatnonzero(kept >= 0)
            if len(rows):
                if last is indices and self.frame_stack > 1:
                    # Memory of its own in the same layout, which compiled code relies on.
                    following = self._stacks.read_both(places)[1]
                replace_rows(following, self._to_device(rows), self._kept.rows.read(kept[rows]))
        return observations, following

    def _n_step_returns(
        self, indices: Indices, envs: Indices, env: VecNormalize | None
    ) -> tuple[Array, Indices, Array]:
        """Sums discounted rewards up to the episode's end, or the newest transition.

        Returns:
            The sums, shape (batch, 1); the index of each last transition summed; the discount of
            what follows it, shape (batch, 1).
        """
        steps = np.arange(self.n_steps)
        window = (indices[:, None] + steps) % self.buffer_size
        where = window * self.n_envs + envs[:, None]
        stops = self.dones.take(where) | (window == (self.pos - 1) % self.buffer_size)
        stops[:, -1] = True
        last = stops.argmax(axis=1)
        is_summed = steps <= last[:, None]
        # In Stable-Baselines3's order of operations, for the same rounding.
        rewards = self._normalize_reward(self.rewards.take(where), env)
        discounts = self.gamma ** steps.astype(np.float32)
        returns = (rewards * discounts * is_summed).sum(axis=1, keepdims=True)
        final = self.gamma ** is_summed.sum(axis=1, keepdims=True).astype(np.float32)
        return returns, (indices + last) % self.buffer_size, final

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.device = self._device  # or the CPU, where that GPU is missing


def _check_spaces(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    if isinstance(observation_space, spaces.Dict):
        raise UnsupportedSpaceError(
            "FrameRing takes one array per observation, found a Dict of them. "
            "Use stable_baselines3.common.buffers.DictReplayBuffer instead."
        )
    flat = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    if not isinstance(observation_space, flat):
        raise UnsupportedSpaceError(
            "FrameRing takes Box, Discrete, MultiDiscrete or MultiBinary observations, found "
            f"{observation_space}."
        )
    if not isinstance(action_space, spaces.Discrete) or action_space.start != 0:
        raise UnsupportedSpaceError(
            f"FrameRing takes Discrete actions counted from 0, found {action_space}."
        )
