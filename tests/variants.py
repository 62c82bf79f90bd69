"""The family in miniature: every algorithm under representative flags, and how to make one."""

from collections.abc import Container, Iterable
from typing import Any

import gymnasium as gym
import pytest
import torch
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch import Tensor, nn

from sndqn.algorithms import C51, DQN, IQN, QRDQN, ValueBasedAlgorithm
from sndqn.policies import mlp
from sndqn.spectral import SpectralLayer

ALGORITHMS: dict[str, type[ValueBasedAlgorithm]] = {c.__name__: c for c in (DQN, C51, QRDQN, IQN)}
# Distributions smaller than the papers'.
SIZES: dict[str, dict[str, Any]] = {
    "DQN": {},
    "C51": {"n_atoms": 21},
    "QRDQN": {"n_quantiles": 16},
    "IQN": {
        "n_quantiles": 8,
        "n_target_quantiles": 8,
        "n_acting_quantiles": 16,
        "n_cosines": 16,
    },
}

Flags = dict[str, Any]
Variant = tuple[str, str]
SLOW = pytest.mark.slow


def under_sn_in_the_torso(**policy: Any) -> Flags:
    """A normalised layer in front of a head of one layer."""
    torso: Flags = {
        "features_extractor_class": mlp,
        "features_extractor_kwargs": {"features_dim": 32},
        "sn_layers": "features_extractor",
        "net_arch": [],
    }
    return {"policy_kwargs": {**torso, **policy}}


def scheduler(name: str, form: str = "product", **policy: Any) -> Flags:
    """A spectral scheduler over the two hidden layers."""
    policy.update(sn_layers="-2,-3", sn_mode="track", sn_scheduler=name, sn_scheduler_form=form)
    return {"policy_kwargs": policy}


SHARED: dict[str, Flags] = {
    "plain": {},
    "double": {"double": True},
    "munchausen": {"munchausen": True},
    "prioritized-3-steps": {"prioritized": True, "n_steps": 3},
    "dueling": {"policy_kwargs": {"dueling": True, "sn_layers": "all"}},
    "noisy": under_sn_in_the_torso(noisy=True),
    "gradient-penalty": {"gradient_penalty": 0.1, "gradient_penalty_threshold": 0.0},
}
MIXED: dict[Variant, Flags] = {
    ("C51", "rainbow"): {
        "double": True,
        "prioritized": True,
        "n_steps": 3,
        "policy_kwargs": {"dueling": True, "noisy": True, "sn_layers": "none"},
    },
    ("IQN", "munchausen-prioritized"): {"munchausen": True, "prioritized": True},
    ("DQN", "div-out"): scheduler("div_out"),
    ("C51", "div-out-layer"): scheduler("div_out", "layer", dueling=True),
    ("QRDQN", "div-grad"): scheduler("div_grad", "layer"),
    ("IQN", "mul-eps"): scheduler("mul_eps", "layer", sn_scheduler_one_sided=True),
    ("DQN", "div-lr-logarithmic"): {**scheduler("div_lr"), "exploration": "logarithmic"},
}
VARIANTS: dict[Variant, Flags] = {
    (algorithm, name): flags
    for algorithm in ALGORITHMS
    for name, flags in SHARED.items()
    if (algorithm, name) != ("C51", "munchausen")  # refused
} | MIXED
# Each algorithm and each flag at least once; the others take minutes.
FEW: list[Variant] = [
    ("DQN", "gradient-penalty"),
    ("DQN", "div-out"),
    ("C51", "rainbow"),
    ("QRDQN", "munchausen"),
    ("IQN", "noisy"),
]


def variants(names: Iterable[Variant], quick: Container[Variant]) -> pytest.MarkDecorator:
    """Parametrises a test by variants; those that are not quick are left to the slow run."""
    cases = [pytest.param(v, id="-".join(v), marks=() if v in quick else SLOW) for v in names]
    return pytest.mark.parametrize("variant", cases)


def normalises(variant: Variant) -> bool:
    """Whether a variant's networks are under SN, by its flags."""
    policy = VARIANTS[variant].get("policy_kwargs", {})
    return bool(policy.get("sn_layers") != "none" and policy.get("sn_mode") != "track")


def cartpoles(n_envs: int = 1) -> DummyVecEnv:
    return DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"))] * n_envs)


def make(variant: Variant, env: VecEnv | None = None, **kwargs: Any) -> Any:
    """Makes a small model; further arguments are the algorithm's, policy_kwargs those added."""
    algorithm, _ = variant
    flags = dict(VARIANTS[variant])
    small: Flags = {
        "seed": 0,
        "device": "cpu",
        "buffer_size": 500,
        "learning_starts": 40,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "target_update_interval": 20,
        "compile": False,
    }
    policy = {
        "net_arch": [32, 32],
        **flags.pop("policy_kwargs", {}),
        **kwargs.pop("policy_kwargs", {}),
    }
    arguments = {**small, **SIZES[algorithm], **flags, **kwargs, "policy_kwargs": policy}
    return ALGORITHMS[algorithm]("SNMlpPolicy", env or cartpoles(), **arguments)


def held(network: nn.Module) -> list[SpectralLayer]:
    """The layers whose norm is followed."""
    return [m for m in network.modules() if isinstance(m, SpectralLayer)]


def state(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, those that no file keeps among them."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: value.detach().clone() for name, value in named}


def differences(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """The names whose values are not equal to the bit."""
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if not torch.equal(value, other[name])]


def put_elsewhere(network: nn.Module) -> None:
    """Has torch put new memory, with the same values, under each parameter."""
    vector = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
    nn.utils.vector_to_parameters(vector, network.parameters())
