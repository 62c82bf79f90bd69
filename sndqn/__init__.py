"""Deep Q-learning with spectral normalisation, on Stable-Baselines3.

The public names load on first use: importing sndqn by itself imports neither torch nor gymnasium.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sndqn.algorithms import C51, DQN, IQN, QRDQN
    from sndqn.envs import make_env, make_vec_env, resolve_env
    from sndqn.networks import make_q_network
    from sndqn.policies import SNCnnPolicy, SNMlpPolicy, SNMultiInputPolicy, register
    from sndqn.spectral import remove_spectral_norm, spectral_norm

_HOMES = {
    "C51": "sndqn.algorithms",
    "DQN": "sndqn.algorithms",
    "IQN": "sndqn.algorithms",
    "QRDQN": "sndqn.algorithms",
    "SNCnnPolicy": "sndqn.policies",
    "SNMlpPolicy": "sndqn.policies",
    "SNMultiInputPolicy": "sndqn.policies",
    "make_env": "sndqn.envs",
    "make_q_network": "sndqn.networks",
    "make_vec_env": "sndqn.envs",
    "register": "sndqn.policies",
    "remove_spectral_norm": "sndqn.spectral",
    "resolve_env": "sndqn.envs",
    "spectral_norm": "sndqn.spectral",
}

__all__ = [
    "C51",
    "DQN",
    "IQN",
    "QRDQN",
    "SNCnnPolicy",
    "SNMlpPolicy",
    "SNMultiInputPolicy",
    "make_env",
    "make_q_network",
    "make_vec_env",
    "register",
    "remove_spectral_norm",
    "resolve_env",
    "spectral_norm",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sndqn' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
