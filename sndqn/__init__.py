"""Deep Q-learning with spectral normalisation, on Stable-Baselines3.

The public names load on first use: importing sndqn by itself imports neither torch nor gymnasium.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sndqn.algorithms import C51, DQN, IQN, QRDQN
    from sndqn.api import load, report, resume, sweep, train
    from sndqn.envs import make_env, make_vec_env, resolve_env
    from sndqn.networks import make_q_network
    from sndqn.policies import SigmaCallback, SNCnnPolicy, SNMlpPolicy, SNMultiInputPolicy
    from sndqn.spectral import remove_spectral_norm, spectral_norm

_HOMES = {
    "C51": "sndqn.algorithms",
    "DQN": "sndqn.algorithms",
    "IQN": "sndqn.algorithms",
    "QRDQN": "sndqn.algorithms",
    "SNCnnPolicy": "sndqn.policies",
    "SNMlpPolicy": "sndqn.policies",
    "SNMultiInputPolicy": "sndqn.policies",
    "SigmaCallback": "sndqn.policies",
    "load": "sndqn.api",
    "make_env": "sndqn.envs",
    "make_q_network": "sndqn.networks",
    "make_vec_env": "sndqn.envs",
    "remove_spectral_norm": "sndqn.spectral",
    "resolve_env": "sndqn.envs",
    "report": "sndqn.api",
    "resume": "sndqn.api",
    "spectral_norm": "sndqn.spectral",
    "sweep": "sndqn.api",
    "train": "sndqn.api",
}

__all__ = [
    "C51",
    "DQN",
    "IQN",
    "QRDQN",
    "SNCnnPolicy",
    "SNMlpPolicy",
    "SNMultiInputPolicy",
    "SigmaCallback",
    "load",
    "make_env",
    "make_q_network",
    "make_vec_env",
    "register",
    "register_zoo",
    "remove_spectral_norm",
    "report",
    "resolve_env",
    "resume",
    "spectral_norm",
    "sweep",
    "train",
]


def register() -> None:
    """Makes the policies known by name to Stable-Baselines3's DQN and sb3-contrib's QRDQN.

    Changes the two classes' tables of names and nothing else; calling it again changes nothing.
    """
    from stable_baselines3 import DQN

    from sndqn.policies import POLICIES

    DQN.policy_aliases.update(POLICIES)
    try:
        from sb3_contrib import QRDQN
    except ImportError:
        return
    from sndqn.contrib import POLICIES as QUANTILE_POLICIES

    QRDQN.policy_aliases.update(QUANTILE_POLICIES)


def register_zoo() -> None:
    """Puts sndqn's algorithms into rl-zoo3's table: sn_dqn, sn_c51, sn_qrdqn and sn_iqn.

    And the policies by name, as `register`. rl-zoo3's commands then train, tune and play them:

        import sndqn
        from rl_zoo3.train import train

        sndqn.register_zoo()
        train()  # python this.py --algo sn_dqn --env CartPole-v1 --conf-file my.yml

    Raises:
        MissingExtraError: rl-zoo3 is not installed.
    """
    try:
        from rl_zoo3.utils import ALGOS
    except ImportError:
        from sndqn.errors import MissingExtraError

        raise MissingExtraError("register_zoo: expected rl-zoo3: pip install rl_zoo3") from None
    from sndqn.algorithms import C51, DQN, IQN, QRDQN

    ALGOS.update({"sn_dqn": DQN, "sn_c51": C51, "sn_qrdqn": QRDQN, "sn_iqn": IQN})
    register()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sndqn' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
