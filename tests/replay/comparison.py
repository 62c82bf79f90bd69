"""A FrameRing beside the buffer of Stable-Baselines3 that does the same, and their batches."""

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from sndqn.replay import FrameRing


def pair(
    buffer_size: int, space: Any, actions: Any, n_envs: int, **options: Any
) -> tuple[FrameRing, ReplayBuffer]:
    """Gives a FrameRing and the buffer of Stable-Baselines3 that does the same."""
    ring = FrameRing(buffer_size, space, actions, "cpu", n_envs, **options)
    kind: type[ReplayBuffer] = ReplayBuffer
    strange = {"frame_stack", "n_steps", "gamma"}
    if options.get("n_steps", 1) > 1:
        kind, strange = NStepReplayBuffer, {"frame_stack"}
    known = {key: value for key, value in options.items() if key not in strange}
    return ring, kind(buffer_size, space, actions, "cpu", n_envs, **known)


def batch(buffer: ReplayBuffer, size: int, seed: int, env: VecNormalize | None = None) -> Any:
    np.random.seed(seed)
    return buffer.sample(size, env)


def assert_same_batch(
    ring: ReplayBuffer, other: ReplayBuffer, seed: int = 0, env: VecNormalize | None = None
) -> None:
    """Bit for bit, but for the next observations of terminated transitions."""
    ours, next_number = batch(ring, 32, seed, env), np.random.random()
    theirs, expected_number = batch(other, 32, seed, env), np.random.random()
    assert next_number == expected_number, "another random stream"
    for name in ("observations", "actions", "dones", "rewards", "discounts"):
        value, expected = getattr(ours, name), getattr(theirs, name)
        if expected is None:
            assert value is None
            continue
        assert value.dtype == expected.dtype, name
        assert torch.equal(value, expected), name
    goes_on = theirs.dones[:, 0] == 0
    assert ours.next_observations.dtype == theirs.next_observations.dtype
    assert ours.next_observations.shape == theirs.next_observations.shape
    assert torch.equal(ours.next_observations[goes_on], theirs.next_observations[goes_on])
