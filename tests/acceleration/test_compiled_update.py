"""The compiled update is the eager one."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor
from variants import VARIANTS, Variant, cartpoles, held, put_elsewhere, state
from variants import make as small

import sndqn
from sndqn.acceleration import compiler_available
from sndqn.acceleration.compiled_update import CompiledUpdate, widened
from sndqn.acceleration.interface import moments
from sndqn.algorithms.dqn import DQNLoss
from sndqn.algorithms.loss import Losses, Networks
from sndqn.algorithms.target_network import sync_target
from sndqn.envs import make_vec_env, resolve_env
from sndqn.policies import SNDQNPolicy, minatar_cnn, nature_cnn
from sndqn.replay import Batch

SCHEDULERS = ("div_grad", "mul_eps", "div_lr")
needs_compiler = pytest.mark.skipif(not compiler_available(), reason="no C++ compiler")


def make(env_id: str = "CartPole-v1", **kwargs: Any) -> Any:
    """Makes a model that has filled its replay and made no update yet."""
    extractor = {"MinAtar/Breakout": minatar_cnn, "Breakout": nature_cnn}.get(env_id)
    if extractor is not None:
        env: Any = make_vec_env(resolve_env(env_id), 2, seed=0)
        kwargs.setdefault("policy_kwargs", {})["features_extractor_class"] = extractor
    else:
        env = DummyVecEnv([lambda: gym.make(env_id)] * 2)
    settings: dict[str, Any] = {"seed": 0, "device": "cpu", "buffer_size": 2000, "compile": False}
    model = sndqn.DQN(SNDQNPolicy, env, learning_starts=10**6, **{**settings, **kwargs})
    return model.learn(1000)


def train(model: sndqn.DQN, n_updates: int, *, compiled: bool) -> list[Tensor]:
    """Makes updates with syncs between; gives everything the online network holds."""
    np.random.seed(1)
    model.acceleration.due = compiled
    for _ in range(n_updates // 10):
        model.train(10, batch_size=32)
        sync_target(model.q_net, model.q_net_target, tau=0.5)
    assert (model.acceleration.updates is not None) == compiled
    return [value.clone() for value in model.q_net.state_dict().values()]


def check_updates(model: Any, n_updates: int) -> None:
    """From the same networks, noise and batch, to float32's rounding: 1e-4 of the largest entry."""
    start = state(model.q_net)
    train(model, 10, compiled=True)
    compiled, replay = model.acceleration.updates, model.replay_buffer
    observations = torch.as_tensor(np.array(model._last_obs))
    for _ in range(n_updates):
        batch = model.draw_samples(32)
        random = torch.get_rng_state()  # of which each side draws its noise
        model.update.draw_noise()
        expected, expected_priorities, expected_logs = model.update.gradients(batch)
        before, factors = adam_state(model), scheduled(model)
        torch.set_rng_state(random)
        priorities, logs = compiled.run_updates(batch, 1, 0)
        torch.testing.assert_close(logs, expected_logs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(priorities, expected_priorities, rtol=1e-4, atol=1e-5)
        check_adam_step(model, before, expected, factors)
        if model.prioritized:
            replay.update_priorities(replay.sampled, priorities)
        for layer in held(model.q_net):
            assert float(layer.running_sigma) == pytest.approx(
                float(layer.stretch_of_vectors()), rel=1e-5
            )
        with torch.no_grad():
            q_values = model.q_net(observations)
        chosen = q_values.gather(1, compiled.greedy_actions(observations)[:, None])
        assert bool((chosen[:, 0] > q_values.max(dim=1).values - 1e-4).all())
    for name, parameter in model.q_net.named_parameters():
        assert not torch.equal(parameter, start[name]), name


def adam_state(model: Any) -> tuple[int, list[tuple[Tensor, Tensor, Tensor]]]:
    """The steps made, and in float64 each weight with its two moments."""
    (found,) = moments(model.update)
    now = [
        (p.detach().double().clone(), m.double().clone(), v.double().clone())
        for p, m, v in zip(model.update.parameters, found.exp_avgs, found.exp_avg_sqs, strict=True)
    ]
    return int(found.steps[0]), now


def scheduled(model: Any) -> dict[str, list[Tensor]]:
    """What the optimiser's scheduler multiplies or divides by, for each weight, by its name."""
    factors = {name: [torch.ones(())] * len(model.update.parameters) for name in SCHEDULERS}
    scheduler = model.policy.optimizer.scheduler
    if scheduler is not None:
        factors[scheduler.name] = [f.clone() for f in scheduler.factors(model.update.parameters)]
    return factors


def check_adam_step(
    model: Any, before: Any, gradients: list[Tensor], factors: dict[str, list[Tensor]]
) -> None:
    """By the formulas of Kingma and Ba, algorithm 1."""
    (t, old), (t_now, new) = before, adam_state(model)
    assert t_now == t + 1
    group = model.policy.optimizer.param_groups[0]
    beta1, beta2 = group["betas"]
    largest = max(float(g.abs().max()) for g in gradients)
    each = zip(old, new, gradients, *(factors[name] for name in SCHEDULERS), strict=True)
    for (p0, m0, v0), (p1, m1, v1), gradient, div_grad, mul_eps, div_lr in each:
        g = (m1 - beta1 * m0) / (1 - beta1)
        rounding = 1e-6 * float(m0.abs().max())
        close = 1e-4 * largest + rounding
        torch.testing.assert_close(g, (gradient / div_grad).double(), rtol=0, atol=close)
        torch.testing.assert_close(v1, beta2 * v0 + (1 - beta2) * g**2, rtol=1e-4, atol=1e-12)
        root = (v1 / (1 - beta2**t_now)).sqrt() + group["eps"] * mul_eps
        step = group["lr"] / div_lr * m1 / (1 - beta1**t_now) / root
        torch.testing.assert_close(p1, p0 - step, rtol=1e-6, atol=1e-8)


def filled(variant: Variant) -> Any:
    """A model of a variant that has filled its replay and made no update yet."""
    return small(variant, cartpoles(2), buffer_size=2000, learning_starts=10**6).learn(1000)


@needs_compiler
@pytest.mark.parametrize(
    "variant",
    [("C51", "rainbow"), pytest.param(("IQN", "munchausen-prioritized"), marks=pytest.mark.slow)],
    ids="-".join,
)
def test_each_of_fifty_compiled_updates_is_the_eager_one(variant: Variant) -> None:
    check_updates(filled(variant), 50)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_each_of_a_thousand_compiled_updates_is_the_eager_one(variant: Variant) -> None:
    check_updates(filled(variant), 1000)


@pytest.mark.slow
@needs_compiler
def test_each_of_a_thousand_is_the_eager_one_with_squared_errors_and_no_clipping() -> None:
    check_updates(make(loss="mse", n_steps=3, max_grad_norm=None), 1000)


@needs_compiler
def test_each_compiled_update_is_the_eager_one_with_normalised_convolutions() -> None:
    check_updates(make("MinAtar/Breakout", policy_kwargs={"sn_layers": "all"}), 50)


@pytest.mark.slow
@needs_compiler
def test_each_compiled_update_is_the_eager_one_with_ataris_large_layers() -> None:
    check_updates(make("Breakout", policy_kwargs={"sn_layers": "all"}), 10)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    ("sn_layers", "n_updates", "tolerance"),
    [("none", 1000, 1e-9), ("-2", 100, 1e-4), ("-2", 1000, 0.1)],
)
def test_two_trainings_give_the_same_network(
    sn_layers: str, n_updates: int, tolerance: float
) -> None:
    """In float64, relative to each tensor's largest entry.

    Without SN the difference is rounding. With it, rounding decides how the followed vectors turn
    where singular values are close, and grows with that.
    """
    results = []
    for compiled in (False, True):
        model = make(double=True, policy_kwargs={"sn_layers": sn_layers})
        for network in (model.q_net, model.q_net_target):
            network.double()
            network.features_extractor.register_forward_pre_hook(lambda _, x: (x[0].double(),))
        train(model, n_updates, compiled=compiled)
        results.append([p.detach().clone() for p in model.q_net.parameters()])
    for eager, fast in zip(*results, strict=True):
        scale = float(eager.abs().max())
        torch.testing.assert_close(fast, eager, rtol=0, atol=tolerance * scale)


@needs_compiler
def test_what_was_compiled_acts_as_the_policy_does_and_knows_its_layouts() -> None:
    model = make()
    samples = model.draw_samples(4 * 32)
    observations = torch.as_tensor(np.array(model._last_obs))
    before = {name: value.clone() for name, value in model.q_net.state_dict().items()}
    compiled = CompiledUpdate(model.update, samples, 4, observations)
    for name, value in model.q_net.state_dict().items():
        assert torch.equal(value, before[name]), f"compiling has changed {name}"
    expected = model.policy._predict(observations, deterministic=True)
    actions = compiled.greedy_actions(observations)
    assert actions is not None
    assert torch.equal(actions, expected)
    assert compiled.greedy_actions(observations[:1]) is None, "another shape is not for it"
    assert compiled.run_updates(samples, 8, 0) is None, "batches of 16"
    assert compiled.run_updates(model.draw_samples(2 * 32), 4, 0) is None
    other = samples._replace(observations=samples.observations.double())
    assert compiled.run_updates(other, 4, 0) is None
    for n_updates in (4, 2, 8, 4):
        assert compiled.run_updates(model.draw_samples(n_updates * 32), n_updates, 0) is not None


@pytest.mark.slow
@needs_compiler
def test_eager_updates_go_on_from_compiled_ones_and_from_saved_files(tmp_path: Path) -> None:
    """Moments that lay otherwise than their weights would be taken for one another's."""
    model = make("MinAtar/Breakout", policy_kwargs={"sn_layers": "-2"})
    train(model, 10, compiled=True)
    model.save(tmp_path / "model.zip")
    loaded = sndqn.DQN.load(tmp_path / "model.zip", env=model.env)
    loaded.replay_buffer = copy.deepcopy(model.replay_buffer)
    loaded._setup_learn(100, None)
    model.acceleration.updates = None
    expected, found = (train(m, 10, compiled=False) for m in (model, loaded))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("bytes_are_slow", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_large_observations_are_read_where_they_are_and_only_as_compiled(
    bytes_are_slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sndqn.acceleration.compiled_update._BYTES_ARE_SLOW", bytes_are_slow)
    env = make_vec_env(resolve_env("Breakout"), 2, seed=0)
    policy_kwargs = {"features_extractor_class": nature_cnn}
    settings: dict[str, Any] = {"buffer_size": 200, "learning_starts": 10**6, "device": "cpu"}
    model = sndqn.DQN(SNDQNPolicy, env, policy_kwargs=policy_kwargs, **settings).learn(100)
    samples = model.draw_samples(2 * 32)
    observations = torch.as_tensor(np.array(model._last_obs))
    compiled = CompiledUpdate(model.update, samples, 2, observations)
    expected = model.policy._predict(observations, deterministic=True)
    actions = compiled.greedy_actions(observations)
    assert actions is not None
    assert torch.equal(actions, expected)
    batch = model.draw_samples(32)
    loss = model.update.gradients(batch).logs["loss"]
    made = compiled.run_updates(batch, 1, 0)
    assert made is not None
    torch.testing.assert_close(made[1]["loss"], loss)
    apart = samples.observations.clone()
    assert apart.stride() != samples.observations.stride()
    other = samples._replace(observations=apart)
    assert compiled.run_updates(other, 2, 0) is None, "strides are part of the code"
    assert compiled.run_updates(samples, 2, 0) is not None


@needs_compiler
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("div_grad", "product"),
        pytest.param("mul_eps", "layer", marks=pytest.mark.slow),
    ],
)
def test_a_compiled_step_is_the_eager_one_under_a_scheduler(name: str, form: str) -> None:
    settings = {"sn_mode": "track", "sn_scheduler": name, "sn_scheduler_form": form}
    model = make(policy_kwargs={"sn_layers": "all", "optimizer_kwargs": {"eps": 1e-3}, **settings})
    twin = make(policy_kwargs={"sn_layers": "all", "optimizer_kwargs": {"eps": 1e-3}, **settings})
    train(model, 10, compiled=True)
    train(twin, 10, compiled=False)
    for fast, eager in zip(model.update.parameters, twin.update.parameters, strict=True):
        torch.testing.assert_close(fast, eager, rtol=1e-4, atol=1e-6)


@needs_compiler
def test_a_compiled_step_is_the_eager_one_with_decoupled_decay_and_eps_by_layer() -> None:
    policy: dict[str, Any] = {"sn_layers": "-2", "optimizer_eps_layers": {"-2": 0.1}}
    policy["optimizer_kwargs"] = {"weight_decay": 0.5, "decoupled_weight_decay": True}
    model, twin = (make(policy_kwargs=policy, learning_rate=0.01) for _ in range(2))
    train(model, 10, compiled=True)
    train(twin, 10, compiled=False)
    assert len(model.update.groups) == 2
    for fast, eager in zip(model.update.parameters, twin.update.parameters, strict=True):
        torch.testing.assert_close(fast, eager, rtol=1e-4, atol=1e-6)
    updates = model.acceleration.updates
    model.policy.optimizer.param_groups[1]["eps"] = 0.2
    assert updates.run_updates(model.draw_samples(32), 1, 0) is None, "0.1 is in its code"


@needs_compiler
@pytest.mark.parametrize("normalization", ["batch", pytest.param("layer", marks=pytest.mark.slow)])
def test_each_compiled_update_is_the_eager_one_with_normalised_activations(
    normalization: str,
) -> None:
    policy = {"sn_layers": "-2", "normalization": normalization}
    model = make("MinAtar/Breakout", policy_kwargs=policy)
    check_updates(model, 20)
    kept, batch = state(model.q_net), model.draw_samples(32)
    model.acceleration.updates.run_updates(batch, 1, 0)
    fast = state(model.q_net)
    with torch.no_grad():
        for name, tensor in model.q_net.state_dict().items():
            tensor.copy_(kept[name])
    model.update.gradients(batch)
    eager = state(model.q_net)
    statistics = [name for name in eager if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) == (4 if normalization == "batch" else 0)
    for name in statistics:
        assert not torch.equal(eager[name], kept[name])
        torch.testing.assert_close(fast[name], eager[name], rtol=1e-4, atol=1e-6)


@needs_compiler
def test_a_compiled_step_follows_the_learning_rate_and_notices_another_state() -> None:
    model = make()
    train(model, 10, compiled=True)
    compiled, batch = model.acceleration.updates, model.draw_samples(32)
    before = [p.detach().clone() for p in model.update.parameters]
    model.policy.optimizer.param_groups[0]["lr"] = 0.0
    assert compiled.run_updates(batch, 1, 0) is not None
    for parameter, value in zip(model.update.parameters, before, strict=True):
        assert torch.equal(parameter, value)
    kept = model.update.settings
    model.gamma = 0.5
    model.update.settings = model.current_settings()
    assert compiled.run_updates(batch, 1, 0) is None, "0.99 is in its code"
    model.update.settings = kept
    assert compiled.run_updates(batch, 1, 0) is not None
    model.policy.optimizer.load_state_dict(model.policy.optimizer.state_dict())
    assert compiled.run_updates(batch, 1, 0) is None, "its moments are other tensors"


@needs_compiler
@pytest.mark.parametrize("optimizer", ["Adam", pytest.param("SGD", marks=pytest.mark.slow)])
def test_weights_put_elsewhere_are_trained_where_they_are(optimizer: str) -> None:
    kwargs = {"optimizer_class": torch.optim.SGD} if optimizer == "SGD" else {}
    model, twin = (make(policy_kwargs=kwargs) for _ in range(2))
    train(model, 10, compiled=True)
    train(twin, 10, compiled=False)
    twin.policy.load_state_dict(model.policy.state_dict())
    twin.policy.optimizer.load_state_dict(copy.deepcopy(model.policy.optimizer.state_dict()))
    compiled = model.acceleration.updates
    put_elsewhere(model.q_net)
    assert not compiled.assumptions.networks_hold()
    assert compiled.greedy_actions(torch.as_tensor(np.array(model._last_obs))) is None
    for one in (model, twin):
        np.random.seed(2)
        one.train(10, batch_size=32)
    assert model.acceleration.updates is compiled, "what is left of this training is eager"
    for name, value in model.q_net.state_dict().items():
        assert torch.equal(value, twin.q_net.state_dict()[name]), name
    model.compile = True
    model.begin_learning(1000, reset_num_timesteps=False)
    assert model.acceleration.updates is None
    assert model.acceleration.due, "the next is compiled anew"


@needs_compiler
def test_another_optimiser_steps_after_what_was_compiled_and_sigma_follows() -> None:
    torch.manual_seed(0)
    model = make(policy_kwargs={"optimizer_class": torch.optim.SGD})
    train(model, 10, compiled=True)
    compiled, batch = model.acceleration.updates, model.draw_samples(32)
    gradients, _, _ = model.update.gradients(batch)
    before = [p.detach().clone() for p in model.update.parameters]
    compiled.run_updates(batch, 1, 0)
    lr = model.policy.optimizer.param_groups[0]["lr"]
    for parameter, value, gradient in zip(model.update.parameters, before, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), value - lr * gradient, rtol=0, atol=1e-7)
    (layer,) = held(model.q_net)
    assert float(layer.running_sigma) == pytest.approx(float(layer.stretch_of_vectors()), rel=1e-5)
    assert copy.deepcopy(model.policy).replaced_refine is None, "it knows the original's layers"


def test_short_trainings_and_dict_observations_are_not_compiled() -> None:
    model = make()
    model.compile = "auto"
    assert not model.will_compile(10**5)
    model.learning_starts = 0
    assert not model.will_compile(10**5)
    assert model.will_compile(10**6) == compiler_available()
    model.compile = False
    assert not model.will_compile(10**7)


def test_where_compiling_fails_training_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Branching(DQNLoss):
        def __call__(self, networks: Networks, batch: Batch) -> Losses:
            losses = super().__call__(networks, batch)
            factor = float(losses.values.sum() > 0)  # a branch in Python on a tensor's value
            return losses._replace(values=losses.values * factor)

    model = make()
    loss = Branching(*model.target_settings(), name="huber")
    monkeypatch.setattr(model, "make_loss", lambda: loss)
    model.acceleration.due = True
    with pytest.warns(UserWarning, match="without acceleration"):
        model.train(3, batch_size=32)
    assert model.acceleration.updates is None
    assert model._n_updates == 3


IQN_ON_TWO_THREADS = """
import sys, torch
from sndqn.training.config import make_config
from sndqn.training.config_files import layered_config
from sndqn.training.run import train
flags = {
    "env": "MinAtar/Breakout", "total_timesteps": 1600, "learning_starts": 1000, "threads": 2,
    "compile": "always", "eval_episodes": 1, "eval_max_steps": 5, "tensorboard": False,
    "runs_dir": sys.argv[1],
}
train(layered_config(flags, "iqn"))
"""


@pytest.mark.slow
@needs_compiler
def test_iqn_on_minatar_runs_compiled_on_two_threads(tmp_path: Path) -> None:
    """A process of its own: what this guards against ends it."""
    command = [sys.executable, "-c", IQN_ON_TWO_THREADS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("bytes_are_slow", [True, False])
def test_bytes_become_floats_where_compiled_code_is_slow_at_it_and_nothing_else_does(
    bytes_are_slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sndqn.acceleration.compiled_update._BYTES_ARE_SLOW", bytes_are_slow)
    numbers = torch.arange(256, dtype=torch.uint8)
    assert widened(numbers).dtype == (torch.float32 if bytes_are_slow else torch.uint8)
    assert torch.equal(widened(numbers).long(), torch.arange(256))
    actions = torch.arange(3)
    assert widened(actions) is actions
