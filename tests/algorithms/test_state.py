"""A training that is left and taken up again goes on to the same bits."""

import copy
import hashlib
import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

import sndqn
from sndqn.acceleration import compiler_available
from sndqn.algorithms.state import get_state, set_state
from sndqn.envs import make_vec_env, resolve_env
from sndqn.envs.journal import JournalVecEnv
from sndqn.errors import ConfigError

TOTAL = 400

VARIANTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dqn": (sndqn.DQN, {"double": True}),
    "soft": (sndqn.DQN, {"tau": 0.05, "target_update_interval": 8}),
    "rainbow": (
        sndqn.C51,
        {
            "double": True, "prioritized": True, "n_steps": 3,
            "policy_kwargs": {
                "dueling": True, "noisy": True, "sn_layers": "-3", "net_arch": [16],
                "features_extractor_class": sndqn.policies.mlp,
                "features_extractor_kwargs": {"features_dim": 16},
            },
        },
    ),
    "m-iqn": (sndqn.IQN, {"munchausen": True, "n_quantiles": 4, "n_target_quantiles": 4}),
    "scheduled": (
        sndqn.QRDQN,
        {"n_quantiles": 5, "policy_kwargs": {"sn_mode": "track", "sn_scheduler": "mul_eps"}},
    ),
}  # fmt: skip


def make(variant: str, n_envs: int = 2, **changes: Any) -> Any:
    algorithm, arguments = VARIANTS[variant]
    env = JournalVecEnv(make_vec_env(resolve_env("CartPole"), n_envs), seed=1, reseed_after=50)
    settings: dict[str, Any] = {
        "learning_starts": 60, "buffer_size": 250, "train_freq": 2, "gradient_steps": 2,
        "batch_size": 8, "target_update_interval": 20, "learning_rate": 1e-2, "seed": 0,
        "compile": False, "exploration_fraction": 0.5, "device": "cpu",
    }  # fmt: skip
    return algorithm("SNMlpPolicy", env, **{**settings, **copy.deepcopy(arguments), **changes})


class Leave(BaseCallback):
    """Takes the state at the first block that begins at a step or after it."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.taken: Any = None

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.taken is None and self.num_timesteps >= self.at:
            model: Any = self.model
            replay = copy.deepcopy(model.replay_buffer)
            self.taken = (get_state(model), model.env.state(), replay)


def digest(model: Any) -> str:
    """Of everything that will decide the future."""
    tensors, data = get_state(model)
    parts = hashlib.sha256(repr(sorted((k, v) for k, v in data.items() if k != "random")).encode())
    parts.update(repr(data["random"]).encode())
    for name in sorted(tensors):
        parts.update(name.encode() + tensors[name].numpy().tobytes())
    buffer = model.replay_buffer
    for array in (buffer.actions, buffer.rewards, buffer.dones, buffer.timeouts):
        parts.update(np.ascontiguousarray(array).tobytes())
    arrays, journal = model.env.state()
    parts.update(repr((journal, [arrays[name].tolist() for name in sorted(arrays)])).encode())
    return parts.hexdigest()


def spoil_random_numbers() -> None:
    np.random.seed(77)
    torch.manual_seed(77)
    random.seed(77)


def taken_up(variant: str, taken: Any, leave_out: Any = None, **changes: Any) -> Any:
    """A fresh model that goes on from a state, in which something may be spoilt before."""
    model = make(variant, **changes)
    (tensors, data), journal, replay = copy.deepcopy(taken)
    data = json.loads(json.dumps(data))
    spoil_random_numbers()
    if leave_out is not None:
        leave_out(model, tensors, data)
    model.replay_buffer = replay
    model.env.restore(*journal)
    set_state(model, tensors, data)
    return model


def go_on(model: Any) -> str:
    model.learn(TOTAL - model.num_timesteps, reset_num_timesteps=False)
    return digest(model)


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "at", [pytest.param(0, marks=slow), 61, *(pytest.param(n, marks=slow) for n in (30, 200, 396))]
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_taken_up_again_ends_as_the_uninterrupted_one(variant: str, at: int) -> None:
    leave = Leave(at)
    model = make(variant).learn(TOTAL, leave)
    assert leave.taken is not None
    assert go_on(taken_up(variant, leave.taken)) == digest(model)


@pytest.mark.skipif(not compiler_available(), reason="no C++ compiler")
@pytest.mark.parametrize("at", [pytest.param(20, marks=slow), 200])
def test_a_compiled_training_goes_on_compiled(at: int) -> None:
    leave = Leave(at)
    model = make("dqn", compile=True).learn(TOTAL, leave)
    again = taken_up("dqn", leave.taken, compile=True)
    assert (again.acceleration.updates is not None) == (at > 60)
    assert go_on(again) == digest(model)
    assert again.acceleration.updates is not None


def drop(*names: str) -> Any:
    """Keeps the fresh model's own value of some tensors or data."""

    def apply(model: Any, tensors: Any, data: Any) -> None:
        own_tensors, own_data = get_state(model.learn(1) if model._last_obs is None else model)
        for name in names:
            found = [key for key in tensors if key.startswith(name)]
            for key in found:
                if key in own_tensors and own_tensors[key].shape == tensors[key].shape:
                    tensors[key] = own_tensors[key]
                else:
                    tensors[key] = torch.zeros_like(tensors[key])
            if name in data:
                data[name] = own_data[name]
            assert found or name in data, name

    return apply


OMISSIONS = [
    "policy/q_net.q_net",
    "policy/q_net_target",
    "policy/q_net.q_net.2.running_u",
    "policy/q_net.q_net.2.running_v",
    "policy/q_net.q_net.2.running_sigma",
    "optimizer/0/exp_avg",
    "optimizer/0/exp_avg_sq",
    "optimizer/0/step",
    "last_obs",
    "games",
    "random/torch",
    "random/numpy",
    "random/python",
    "random",
    "num_timesteps",
    "_episode_num",
    "_n_calls",
    "_n_updates",
    "exploration_rate",
    "_current_progress_remaining",
]


@pytest.fixture(scope="module")
def left() -> tuple[Any, str]:
    """A state from within a target interval, a game and every schedule; the end of its course."""
    leave = Leave(213)
    return leave, digest(make("dqn", **FALLING).learn(TOTAL, leave))


# Blocks of one step learn before the progress is set anew.
FALLING = {
    "learning_rate": LinearSchedule(1e-3, 0.0, 1.0), "exploration_fraction": 1.0, "train_freq": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", OMISSIONS)
def test_leaving_out_any_item_is_seen(name: str, left: Any) -> None:
    leave, expected = left
    assert go_on(taken_up("dqn", leave.taken, drop(name), **FALLING)) != expected


def test_leaving_out_nothing_is_not(left: Any) -> None:
    leave, expected = left
    assert go_on(taken_up("dqn", leave.taken, **FALLING)) == expected


def test_a_state_of_another_network_is_refused() -> None:
    leave = Leave(100)
    make("dqn").learn(120, leave)
    with pytest.raises(ConfigError, match="another network"):
        taken_up("scheduled", leave.taken)


def test_a_state_of_another_number_of_vectors_is_taken_with_its_sigma() -> None:
    leave = Leave(100)
    make("dqn").learn(120, leave)
    (tensors, data), journal, replay = leave.taken
    fewer = {
        name: tensor[:2] if name.endswith((".running_u", ".running_v")) else tensor
        for name, tensor in tensors.items()
    }
    model = taken_up("dqn", ((fewer, data), journal, replay))
    sigma = "q_net.q_net.2.running_sigma"
    assert torch.equal(model.policy.state_dict()[sigma], tensors[f"policy/{sigma}"])
    assert len(model.q_net.q_net[2].running_u) == 8
