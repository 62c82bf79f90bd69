"""The policies inside sb3-contrib's own QRDQN."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sb3_contrib import QRDQN
from test_policies import FAST, LAYERS, excess, held, reach_target_update, same_network, values
from tiny_envs import make_vec_env

import sndqn
from sndqn import contrib
from sndqn.errors import ConfigError, UnsupportedSpaceError
from sndqn.optimizers import Adam

POLICY = {
    "mlp": contrib.SNMlpPolicy,
    "cnn": contrib.SNCnnPolicy,
    "dict": contrib.SNMultiInputPolicy,
}


def make(kind: str = "mlp", n_envs: int = 1, **kwargs: Any) -> QRDQN:
    policy_kwargs = {"sn_layers": LAYERS, "n_quantiles": 10, **kwargs.pop("policy_kwargs", {})}
    env = make_vec_env(kind, n_envs)
    return QRDQN(POLICY[kind], env, policy_kwargs=policy_kwargs, **{**FAST, **kwargs})


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("kind", POLICY)
def test_after_a_hard_update_the_target_is_the_online_network_to_the_bit(
    kind: str, n_envs: int
) -> None:
    model = make(kind, n_envs, target_update_interval=10 * n_envs)
    model.learn(80 * n_envs)
    online, target = model.quantile_net, model.quantile_net_target
    assert not torch.equal(values(online, model), values(target, model))
    reach_target_update(model)
    assert torch.equal(values(online, model), values(target, model))


@pytest.mark.parametrize(
    ("kind", "n_envs", "tau", "learning_rate"),
    [  # each pair of values once or more
        ("mlp", 1, 1.0, 5e-5),
        ("mlp", 3, 1.0, 1e-3),
        ("mlp", 1, 0.005, 5e-5),
        ("cnn", 3, 1.0, 5e-5),
        ("cnn", 1, 1.0, 1e-3),
        ("cnn", 3, 0.005, 5e-5),
        ("dict", 1, 1.0, 5e-5),
        ("dict", 3, 1.0, 1e-3),
        ("dict", 1, 0.005, 5e-5),
    ],
)
def test_online_and_target_layers_keep_their_bound_within_two_percent(
    kind: str, n_envs: int, tau: float, learning_rate: float
) -> None:
    every = 20 if tau == 1 else n_envs
    model = make(kind, n_envs, learning_rate=learning_rate, tau=tau, target_update_interval=every)
    model.learn(n_envs * (300 if kind == "mlp" else 120))
    assert excess(model.quantile_net) < 0.02
    assert excess(model.quantile_net_target) < 0.02


def test_a_saved_model_loads_to_the_same_and_trains_on(tmp_path: Path) -> None:
    model = make(learning_rate=1e-3, target_update_interval=20)
    model.learn(60)
    model.save(tmp_path / "model")
    loaded = QRDQN.load(tmp_path / "model", env=make_vec_env("mlp"), device="cpu")
    assert same_network(model.policy, loaded.policy)
    assert torch.equal(values(model.quantile_net, model), values(loaded.quantile_net, loaded))
    loaded.learn(300, reset_num_timesteps=False)
    reach_target_update(loaded)
    assert excess(loaded.quantile_net_target) < 0.02


def test_first_weights_are_those_of_the_stock_policy() -> None:
    stock = QRDQN("MlpPolicy", make_vec_env("mlp"), policy_kwargs={"n_quantiles": 10}, **FAST)
    model = make()
    for name, value in stock.policy.named_parameters():
        assert torch.equal(model.policy.get_parameter(name), value)


def test_names_are_registered_once_and_work() -> None:
    sndqn.register()
    sndqn.register()
    model = QRDQN("SNMlpPolicy", make_vec_env("mlp"), **FAST)
    assert type(model.policy) is contrib.SNMlpPolicy
    assert len(held(model.quantile_net)) == 1


def test_a_policy_for_other_observations_is_refused_with_the_right_one() -> None:
    with pytest.raises(UnsupportedSpaceError, match="use SNMultiInputPolicy"):
        QRDQN(contrib.SNMlpPolicy, make_vec_env("dict"), **FAST)


def test_gradients_divided_by_tracked_norms_work_and_load(tmp_path: Path) -> None:
    adam = {"optimizer_class": Adam, "optimizer_kwargs": {"eps": 0.01}}
    settings = {"sn_mode": "track", "sn_bound": 0.3, **adam}
    scheduled = {**settings, "sn_scheduler": "div_grad"}
    steered = make(policy_kwargs=scheduled, learning_rate=1e-3).learn(60)
    plain = make(policy_kwargs=settings, learning_rate=1e-3).learn(60)
    assert not same_network(steered.policy, plain.policy)
    steered.save(tmp_path / "model")
    loaded = QRDQN.load(tmp_path / "model", env=make_vec_env("mlp"), device="cpu")
    assert same_network(steered.policy, loaded.policy)
    optimizer: Any = loaded.policy.optimizer
    assert optimizer.scheduler.layers == held(loaded.quantile_net)


def test_the_optimiser_that_sb3_contrib_chooses_cannot_be_steered() -> None:
    with pytest.raises(
        ConfigError, match=r"found torch\.\S+\.Adam, or .*: use sndqn\.optimizers\.Adam"
    ):
        make(policy_kwargs={"sn_mode": "track", "sn_scheduler": "div_grad"})


def test_dividing_outputs_is_refused_with_what_can() -> None:
    with pytest.raises(ConfigError, match=r"use sndqn\.QRDQN"):
        make(policy_kwargs={"sn_mode": "track", "sn_scheduler": "div_out"})
