"""Agents and episodes that the tests of this folder share."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sndqn.envs import make_env, resolve_env
from sndqn.evaluation import Trace, record_trace

QFunction = Callable[[Any], np.ndarray]


def balance(observation: np.ndarray) -> np.ndarray:
    """Push a cart-pole towards the side its pole falls to: keeps it up for 500 steps."""
    lean = observation[2] + 0.5 * observation[3]
    return np.array([-lean, lean])


def whim(n_actions: int) -> QFunction:
    """An agent whose values depend on every bit of what it sees."""

    def q_function(observation: np.ndarray) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(observation.tobytes())).normal(size=n_actions)

    return q_function


def record(name: str, *, seed: int = 3, max_steps: int = 300, **changes: Any) -> Trace:
    """Record an episode of `name`, with some of its settings changed."""
    settings = replace(resolve_env(name), **changes)
    env = make_env(settings)
    q_function = balance if name == "CartPole" else whim(int(env.action_space.n))
    trace = record_trace(env, settings, q_function, seed=seed, epsilon=0.1, max_steps=max_steps)
    env.close()
    return trace
