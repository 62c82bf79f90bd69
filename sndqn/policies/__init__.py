"""Policies with spectral normalisation for Stable-Baselines3's DQN.

`DQN(SNMlpPolicy, env)`, or `DQN("SNMlpPolicy", env)` after `sndqn.register()`. Everything else is
Stable-Baselines3's own: saving, loading, parameters, optimisers, features extractors. The same
policies for sb3-contrib's QRDQN are in `sndqn.contrib`.
"""

from sndqn.networks.extractors import der_cnn, impala_cnn, minatar_cnn, mlp, nature_cnn
from sndqn.policies.base import SpectralPolicyMixin
from sndqn.policies.dqn import (
    POLICIES,
    SNCnnPolicy,
    SNDQNPolicy,
    SNMlpPolicy,
    SNMultiInputPolicy,
    SNQNetwork,
)
from sndqn.policies.sigma_callback import SigmaCallback

__all__ = [
    "POLICIES",
    "SNCnnPolicy",
    "SNDQNPolicy",
    "SNMlpPolicy",
    "SNMultiInputPolicy",
    "SNQNetwork",
    "SigmaCallback",
    "SpectralPolicyMixin",
    "der_cnn",
    "impala_cnn",
    "minatar_cnn",
    "mlp",
    "nature_cnn",
]
