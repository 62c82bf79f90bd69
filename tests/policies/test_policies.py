"""The policies inside Stable-Baselines3's own DQN and sndqn's: targets, bounds, files, copies.

The claims on target networks hold by what Stable-Baselines3 copies at a target update: a version
that copies something else must fail here.
"""

import copy
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN as StockDQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.dqn.policies import DQNPolicy
from tiny_envs import TinyEnv, make_vec_env
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as torch_spectral_norm

import sndqn
from sndqn.errors import ConfigError, SelectionError, UnsupportedSpaceError
from sndqn.networks import NetworkSpec
from sndqn.networks.noisy import noisy_layers
from sndqn.optimizers import RMSprop
from sndqn.policies import (
    SNCnnPolicy,
    SNMlpPolicy,
    SNMultiInputPolicy,
    der_cnn,
    impala_cnn,
    minatar_cnn,
    mlp,
    nature_cnn,
)
from sndqn.spectral import SpectralLayer

POLICY = {"mlp": SNMlpPolicy, "cnn": SNCnnPolicy, "dict": SNMultiInputPolicy}
ALGORITHM: dict[str, type[StockDQN]] = {"stock": StockDQN, "sndqn": sndqn.DQN}
LAYERS = "-1,-2,-3"
FAST: dict[str, Any] = {
    "seed": 0,
    "device": "cpu",
    "buffer_size": 1000,
    "learning_starts": 20,
    "batch_size": 16,
    "train_freq": 1,
}


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    modes = [network.training for network in networks]
    for network in networks:
        network.train(False)
    yield
    for network, mode in zip(networks, modes, strict=True):
        network.train(mode)


def make(kind: str = "mlp", algorithm: str = "stock", n_envs: int = 1, **kwargs: Any) -> Any:
    kwargs.setdefault("policy_kwargs", {"sn_layers": LAYERS})
    env = make_vec_env(kind, n_envs)
    return ALGORITHM[algorithm](POLICY[kind], env, **{**FAST, **kwargs})


def held(network: nn.Module) -> list[SpectralLayer]:
    return [m for m in network.modules() if isinstance(m, SpectralLayer)]


def excess(network: nn.Module) -> float:
    """The largest relative distance of a layer's true norm from its bound."""
    return max(abs(m.exact_sigma() / float(m.bound) - 1) for m in held(network))


def values(network: nn.Module, model: Any) -> Tensor:
    space = model.observation_space
    space.seed(7)
    samples = [space.sample() for _ in range(8)]
    if isinstance(space, spaces.Dict):
        batch: Any = {k: np.stack([s[k] for s in samples]) for k in space.spaces}
    else:
        batch = np.stack(samples)
    observations, _ = model.policy.obs_to_tensor(batch)
    with torch.no_grad(), evaluating(network):
        return network(observations)


def reach_target_update(model: Any) -> None:
    """Calls the algorithm's own step hook until it has just updated the target network."""
    every = max(model.target_update_interval // model.n_envs, 1)
    for _ in range(every - model._n_calls % every):
        model._on_step()


@pytest.mark.parametrize("learning_rate", [1e-4, 1e-3])
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("kind", POLICY)
@pytest.mark.parametrize("algorithm", ALGORITHM)
def test_after_a_hard_update_the_target_is_the_online_network_to_the_bit(
    algorithm: str, kind: str, n_envs: int, learning_rate: float
) -> None:
    model = make(
        kind, algorithm, n_envs, learning_rate=learning_rate, target_update_interval=10 * n_envs
    )
    first = copy.deepcopy(model.q_net.state_dict())
    model.learn(85 * n_envs)
    assert not torch.equal(values(model.q_net, model), values(model.q_net_target, model))
    reach_target_update(model)
    assert torch.equal(values(model.q_net, model), values(model.q_net_target, model))
    assert any(not torch.equal(v, first[k]) for k, v in model.q_net.named_parameters())
    assert len(held(model.q_net_target)) >= 3


@pytest.mark.parametrize("tau", [1.0, 0.5])
@pytest.mark.parametrize("algorithm", ["stock", "sndqn"])
def test_the_target_takes_over_batch_statistics_that_training_alone_moves(
    algorithm: str, tau: float
) -> None:
    policy = {"sn_layers": "-2", "normalization": "batch"}
    model = make("mlp", algorithm, target_update_interval=10, tau=tau, policy_kwargs=policy)
    model.learn(85)
    online, target = (
        {n: b.clone() for n, b in net.named_buffers() if n.endswith(("_mean", "_var"))}
        for net in (model.q_net, model.q_net_target)
    )
    assert len(online) == 4
    assert not any(torch.equal(online[n], target[n]) for n in online)
    reach_target_update(model)
    moved = dict(model.q_net_target.named_buffers())
    assert all(torch.equal(online[n], moved[n]) for n in online)
    before = {n: b.clone() for n, b in model.q_net.named_buffers()}
    model.predict(model.observation_space.sample())  # acts in evaluation mode
    assert not model.q_net_target.training
    assert all(torch.equal(b, before[n]) for n, b in model.q_net.named_buffers())


@pytest.mark.parametrize(
    ("algorithm", "kind", "n_envs", "learning_rate", "tau"),
    [  # each pair of values once or more
        ("sndqn", "cnn", 3, 1e-3, 1.0),
        ("stock", "cnn", 1, 1e-4, 0.005),
        ("sndqn", "dict", 1, 1e-4, 1.0),
        ("stock", "dict", 3, 1e-3, 0.005),
        ("sndqn", "mlp", 3, 1e-4, 0.005),
        ("stock", "mlp", 1, 1e-3, 1.0),
    ],
)
def test_online_and_target_layers_keep_their_bound_within_two_percent(
    algorithm: str, kind: str, n_envs: int, learning_rate: float, tau: float
) -> None:
    every = 20 if tau == 1 else n_envs
    model = make(
        kind,
        algorithm,
        n_envs,
        learning_rate=learning_rate,
        tau=tau,
        target_update_interval=every,
    )
    model.learn(n_envs * (300 if kind == "mlp" else 120))
    assert excess(model.q_net) < 0.02
    assert excess(model.q_net_target) < 0.02


class TorchNormPolicy(DQNPolicy):
    """The obvious way: torch's own parametrization on the layer before the output."""

    def make_q_net(self) -> Any:
        network = super().make_q_net()
        torch_spectral_norm(network.q_net[-3])
        return network


def test_torchs_own_normalisation_loses_its_bound_in_the_target_network() -> None:
    env, settings = make_vec_env("mlp"), {"learning_rate": 1e-3, "target_update_interval": 20}
    theirs = StockDQN(TorchNormPolicy, env, **{**FAST, **settings})
    theirs.learn(600)
    reach_target_update(theirs)
    weight = theirs.q_net_target.q_net[-3].weight.detach().double()
    ours = make("mlp", policy_kwargs={"sn_layers": "-2"}, **settings)
    ours.learn(600)
    reach_target_update(ours)
    assert not torch.equal(values(theirs.q_net, theirs), values(theirs.q_net_target, theirs))
    assert abs(float(torch.linalg.matrix_norm(weight, 2)) - 1) > 0.05
    assert excess(ours.q_net_target) < 0.02


def same_network(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return list(first) == list(second) and all(
        itertools.starmap(torch.equal, zip(first.values(), second.values(), strict=True))
    )


@pytest.mark.parametrize("kind", POLICY)
@pytest.mark.parametrize("algorithm", ALGORITHM)
def test_a_saved_model_loads_to_the_same_and_trains_on_under_its_bound(
    algorithm: str, kind: str, tmp_path: Path
) -> None:
    model = make(kind, algorithm, learning_rate=1e-3, target_update_interval=20)
    model.learn(60)
    model.save(tmp_path / "model")
    loaded = ALGORITHM[algorithm].load(tmp_path / "model", env=make_vec_env(kind), device="cpu")
    for name in ("q_net", "q_net_target"):
        before, after = getattr(model, name), getattr(loaded, name)
        assert same_network(before, after)
        assert torch.equal(values(before, model), values(after, loaded))
    loaded.learn(300, reset_num_timesteps=False)
    reach_target_update(loaded)
    assert torch.equal(values(loaded.q_net, loaded), values(loaded.q_net_target, loaded))
    assert excess(loaded.q_net_target) < 0.02


def test_set_parameters_carries_values_and_sigma() -> None:
    model, other = make(learning_rate=1e-3), make(seed=9)
    model.learn(60)
    other.set_parameters(model.get_parameters(), exact_match=True)
    assert same_network(model.policy, other.policy)
    assert torch.equal(values(model.q_net, model), values(other.q_net, other))


@pytest.mark.parametrize("algorithm", ["stock", "sndqn"])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_a_vector_of_all_parameters_goes_into_their_memory_and_sigma_follows(
    kind: str, algorithm: str
) -> None:
    model = make(kind, algorithm)
    parameters = list(model.policy.parameters())
    largest = max((p for p in parameters if p.ndim == 2), key=torch.numel)
    largest.data = largest.detach().t().contiguous().t()  # as compiled updates leave it
    memory = [p.data_ptr() for p in parameters]
    vector = model.policy.parameters_to_vector()
    assert np.array_equal(vector, np.concatenate([p.detach().reshape(-1) for p in parameters]))
    other = make(kind, algorithm, seed=9)
    other.policy.load_from_vector(3 * vector)
    model.policy.load_from_vector(3 * vector)
    for mine, others in zip(parameters, other.policy.parameters(), strict=True):
        assert torch.equal(mine, others)
    assert [p.data_ptr() for p in parameters] == memory
    assert excess(model.q_net) < 1e-4
    assert excess(model.q_net_target) < 1e-4
    model.learn(120)
    assert excess(model.q_net) < 0.02


@pytest.mark.parametrize("shape", [(3,), (1, 1), ()])
def test_a_vector_of_another_length_is_refused_and_changes_nothing(shape: tuple[int, ...]) -> None:
    policy = make().policy
    before = policy.parameters_to_vector()
    with pytest.raises(ConfigError, match=f"expected {len(before)} numbers"):
        policy.load_from_vector(np.zeros(shape))
    assert np.array_equal(policy.parameters_to_vector(), before)


def test_a_stock_model_loads_strictly_and_gets_its_sigma(tmp_path: Path) -> None:
    stock = StockDQN("MlpPolicy", make_vec_env("mlp"), **FAST)
    stock.learn(60)
    stock.save(tmp_path / "stock")
    model = make()
    model.set_parameters(tmp_path / "stock.zip", exact_match=True, device="cpu")
    for name, value in stock.q_net.named_parameters():
        assert torch.equal(model.q_net.get_parameter(name), value)
    assert excess(model.q_net) < 1e-4
    assert excess(model.q_net_target) < 1e-4


def test_a_saved_policy_loads_alone_with_its_settings(tmp_path: Path) -> None:
    kwargs = {"sn_layers": "-2", "sn_bound": 0.5, "sn_mode": "shrink", "dueling": True}
    model = make(policy_kwargs=kwargs)
    model.learn(40)
    model.policy.save(str(tmp_path / "policy"))
    loaded = SNMlpPolicy.load(str(tmp_path / "policy"), device="cpu")
    assert loaded.spec == model.policy.spec
    assert loaded.spec.dueling
    assert same_network(model.policy, loaded)
    assert torch.equal(values(model.q_net, model), values(loaded.q_net, model))


HEADS: dict[str, dict[str, Any]] = {
    "linear": {},
    "categorical": {"n_atoms": 11, "v_min": 0.0, "v_max": 5.0},
    "quantile": {"n_quantiles": 8},
    "implicit_quantile": {"n_cosines": 8, "n_acting_quantiles": 8},
}


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_a_saved_policy_loads_alone_with_its_head(head: str, dueling: bool, tmp_path: Path) -> None:
    kwargs = {"head": head, "head_kwargs": HEADS[head], "dueling": dueling, "noisy": True}
    model = make(policy_kwargs={**kwargs, "sn_layers": "none", "initializer": "xavier_uniform"})
    model.policy.save(str(tmp_path / "policy"))
    loaded = SNMlpPolicy.load(str(tmp_path / "policy"), device="cpu")
    assert (loaded.spec.head, loaded.spec.head_kwargs) == (head, HEADS[head])
    found = (loaded.spec.dueling, loaded.noisy, loaded.spec.initializer)
    assert found == (dueling, True, "xavier_uniform")
    observations = torch.randn(4, 4)
    assert torch.equal(loaded.q_net.outputs(observations), model.q_net.outputs(observations))


def test_a_description_makes_a_policy_as_its_arguments_do(tmp_path: Path) -> None:
    spec = NetworkSpec("mlp", net_arch=(9, 8), dueling=True, activation="tanh").changed(sn_bound=2)
    by_value = make(policy_kwargs={"spec": spec})
    arguments = {"net_arch": [9, 8], "dueling": True, "activation_fn": nn.Tanh, "sn_bound": 2}
    by_name = make(policy_kwargs={"features_extractor_class": mlp, **arguments})
    assert by_value.policy.spec == by_name.policy.spec == spec
    assert same_network(by_value.policy, by_name.policy)
    by_value.save(tmp_path / "model")
    loaded = StockDQN.load(tmp_path / "model", device="cpu")
    assert loaded.policy.spec == spec  # type: ignore[union-attr]
    assert same_network(by_value.policy, loaded.policy)


def test_online_and_target_network_cannot_share_a_torso() -> None:
    torso = nature_cnn(spaces.Box(0, 255, (1, 36, 36), np.uint8))
    with pytest.raises(ConfigError, match="makes its torso twice"):
        make("cnn", policy_kwargs={"spec": NetworkSpec(torso)})


def noises(network: nn.Module) -> list[Tensor]:
    return [n.clone() for m in noisy_layers(network) for n in (m.noise_in, m.noise_out)]


@pytest.mark.parametrize("head", HEADS)
def test_predictions_are_by_the_mean_weights_and_the_noise_stays(head: str) -> None:
    kwargs = {"head": head, "head_kwargs": HEADS[head], "noisy": True, "sn_layers": "none"}
    model = make(policy_kwargs=kwargs)
    observations = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    by_mean = model.q_net(torch.as_tensor(observations)).argmax(dim=1)
    model.policy.reset_noise()
    before, noisy = noises(model.q_net), model.q_net(torch.as_tensor(observations)).argmax(dim=1)
    predicted, _ = model.predict(observations, deterministic=True)
    assert np.array_equal(predicted, by_mean.numpy())
    assert not np.array_equal(predicted, noisy.numpy())
    assert all(itertools.starmap(torch.equal, zip(before, noises(model.q_net), strict=True)))
    of_target = noises(model.q_net_target)
    assert all(bool(n.any()) for n in of_target)
    assert not any(itertools.starmap(torch.equal, zip(before, of_target, strict=True)))
    model.policy.remove_noise()
    assert not any(bool(n.any()) for n in noises(model.policy))


def test_a_copied_policy_refreshes_its_own_sigma_and_not_the_originals() -> None:
    model = make(learning_rate=1e-2)
    twin = copy.deepcopy(model.policy)
    assert same_network(model.policy, twin)
    before = {k: v.clone() for k, v in model.policy.state_dict().items()}
    twin.q_net(torch.ones(4, 4)).square().sum().backward()
    twin.optimizer.step()
    for layer in held(twin.q_net):
        torch.testing.assert_close(layer.stretch_of_vectors(), layer.running_sigma)
    assert all(torch.equal(v, before[k]) for k, v in model.policy.state_dict().items())


def test_sigma_belongs_to_the_weight_after_every_optimiser_step() -> None:
    model = make(learning_rate=1e-2)
    model.learn(60)
    for layer in held(model.q_net):
        torch.testing.assert_close(layer.stretch_of_vectors(), layer.running_sigma)


def test_without_registering_sb3_says_what_docs_say_that_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stock = {name: policy for name, policy in StockDQN.policy_aliases.items() if name[:2] != "SN"}
    monkeypatch.setattr(StockDQN, "policy_aliases", stock)
    with pytest.raises(ValueError, match="Policy SNMlpPolicy unknown") as told:
        StockDQN("SNMlpPolicy", make_vec_env("mlp"), **FAST)
    page = Path(__file__).parents[2] / "docs" / "sb3.md"
    assert str(told.value) in page.read_text()


def test_registering_twice_is_registering_once_and_names_work() -> None:
    sndqn.register()
    sndqn.register()
    model = StockDQN("SNMlpPolicy", make_vec_env("mlp"), **FAST)
    assert type(model.policy) is SNMlpPolicy
    assert [float(layer.bound) for layer in held(model.q_net)] == [1.0]
    assert set(StockDQN.policy_aliases) >= {"MlpPolicy", "SNMlpPolicy", "SNCnnPolicy"}
    assert type(sndqn.DQN("SNCnnPolicy", make_vec_env("cnn"), **FAST).policy) is SNCnnPolicy


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch's own
def test_a_network_in_evaluation_mode_exports() -> None:
    model = make("cnn")
    network = model.q_net.eval()
    head, torso = network.q_net, network.features_extractor
    images = torch.rand(2, 1, 36, 36)
    expected = head(torso(images))
    exported = torch.export.export(nn.Sequential(torso, head), (images,))
    torch.testing.assert_close(exported.module()(images), expected)


@pytest.mark.parametrize("selection", ["-2", -2, [-2], ["-2"], ["q_net.2"]])
def test_layers_are_selected_by_text_number_or_list(selection: Any, tmp_path: Path) -> None:
    model = make(policy_kwargs={"sn_layers": selection})
    assert [name for name, m in model.q_net.named_modules() if isinstance(m, SpectralLayer)] == [
        "q_net.2"
    ]
    model.save(tmp_path / "model")
    assert len(held(StockDQN.load(tmp_path / "model", device="cpu").q_net)) == 1


def test_first_weights_are_those_of_the_stock_policy() -> None:
    stock, model = StockDQN("MlpPolicy", make_vec_env("mlp"), **FAST), make()
    for name, value in stock.policy.named_parameters():
        assert torch.equal(model.policy.get_parameter(name), value)


@pytest.mark.parametrize(
    ("policy", "kind", "remedy"),
    [
        (SNMlpPolicy, "dict", "use SNMultiInputPolicy"),
        (SNCnnPolicy, "dict", "use SNMultiInputPolicy"),
        (SNMultiInputPolicy, "mlp", "use SNMlpPolicy or SNCnnPolicy"),
    ],
)
def test_a_policy_for_other_observations_is_refused_with_the_right_one(
    policy: Any, kind: str, remedy: str
) -> None:
    with pytest.raises(UnsupportedSpaceError, match=remedy):
        StockDQN(policy, make_vec_env(kind), **FAST)


def test_without_hidden_layers_there_is_no_layer_before_the_output() -> None:
    with pytest.raises(SelectionError, match="no layer '-2'"):
        make(policy_kwargs={"net_arch": []})


def test_normalised_observations_work() -> None:
    env = VecNormalize(make_vec_env("mlp", 2))
    model = StockDQN(SNMlpPolicy, env, **{**FAST, "target_update_interval": 20})
    model.learn(100)
    assert bool(torch.isfinite(values(model.q_net, model)).all())


@pytest.mark.parametrize("algorithm", ALGORITHM)
def test_the_same_seed_makes_the_same_run(algorithm: str) -> None:
    runs = [make(algorithm=algorithm, learning_rate=1e-3).learn(100) for _ in range(2)]
    assert same_network(runs[0].policy, runs[1].policy)
    assert not same_network(make(algorithm=algorithm, seed=1).learn(100).policy, runs[0].policy)


def test_evaluation_plays_and_changes_nothing() -> None:
    model = make("cnn")
    model.learn(40)
    before = {k: v.clone() for k, v in model.policy.state_dict().items()}
    mean, _ = evaluate_policy(model, make_vec_env("cnn"), n_eval_episodes=2, warn=False)
    assert 0 <= float(mean) <= 10  # type: ignore[arg-type]
    assert all(torch.equal(v, before[k]) for k, v in model.policy.state_dict().items())


def test_discrete_observations_work() -> None:
    env = TinyEnv(spaces.Discrete(5))
    model = StockDQN(SNMlpPolicy, env, **FAST)
    model.learn(40)
    assert excess(model.q_net) < 0.1


def steered(scheduler: str, form: str = "product", **kwargs: Any) -> dict[str, Any]:
    """Policy arguments whose schedulers matter: norms far from the bound, a large ε."""
    settings = {"sn_layers": LAYERS, "sn_bound": 0.3, "sn_mode": "track", "sn_scheduler": scheduler}
    optimizer = {"optimizer_kwargs": {"eps": 0.01}}
    return {**settings, "sn_scheduler_form": form, **optimizer, **kwargs}


def plain() -> dict[str, Any]:
    return {"sn_layers": "none", "optimizer_kwargs": {"eps": 0.01}}


# Not the output layer after the CNN: a plain layer of 512 inputs adds its bias amid the sum.
@pytest.mark.parametrize(("kind", "layers"), [("mlp", LAYERS), ("cnn", "-2,-3,-4")])
@pytest.mark.parametrize("algorithm", ALGORITHM)
def test_tracking_norms_changes_nothing_of_a_training_to_the_bit(
    algorithm: str, kind: str, layers: str
) -> None:
    kwargs = {**steered("none"), "sn_layers": layers}
    tracked = make(kind, algorithm, policy_kwargs=kwargs, learning_rate=1e-3).learn(60)
    untracked = make(kind, algorithm, policy_kwargs=plain(), learning_rate=1e-3).learn(60)
    assert len(held(tracked.q_net)) == 3
    for name, value in untracked.policy.named_parameters():
        assert torch.equal(tracked.policy.get_parameter(name), value), name
    for layer in held(tracked.q_net):
        exact = layer.exact_sigma(effective=False)
        assert float(layer.running_sigma) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("form", ["product", "layer"])
@pytest.mark.parametrize("scheduler", ["div_out", "div_grad", "mul_eps", "div_lr"])
@pytest.mark.parametrize("algorithm", ALGORITHM)
def test_a_scheduled_model_trains_loads_to_the_same_and_trains_on_as_it_would_have(
    algorithm: str, scheduler: str, form: str, tmp_path: Path
) -> None:
    model = make(algorithm=algorithm, policy_kwargs=steered(scheduler, form), learning_rate=1e-3)
    model.learn(60)
    unsteered = make(algorithm=algorithm, policy_kwargs=plain(), learning_rate=1e-3).learn(60)
    output, other = (m.q_net.q_net[-1].weight for m in (model, unsteered))
    assert not torch.equal(output, other)
    model.save(tmp_path / "model")
    loaded = ALGORITHM[algorithm].load(tmp_path / "model", env=make_vec_env("mlp"), device="cpu")
    assert same_network(model.policy, loaded.policy)
    assert torch.equal(values(model.q_net, model), values(loaded.q_net, loaded))
    for policy in (model.policy, loaded.policy):
        for parameter in policy.q_net.parameters():
            parameter.grad = torch.ones_like(parameter)
        policy.optimizer.step()
    assert same_network(model.policy.q_net, loaded.policy.q_net)
    loaded.learn(40, reset_num_timesteps=False)


@pytest.mark.parametrize("form", ["product", "layer"])
@pytest.mark.parametrize("algorithm", ALGORITHM)
def test_a_target_divides_its_outputs_by_norms_of_its_own(algorithm: str, form: str) -> None:
    kwargs = {"learning_rate": 1e-2, "target_update_interval": 10}
    model = make(algorithm=algorithm, policy_kwargs=steered("div_out", form), **kwargs)
    model.learn(65)
    target = model.q_net_target
    assert target.scheduler.layers == held(target) != held(model.q_net)
    own, online = float(target.scheduler.product()), float(model.q_net.scheduler.product())
    exact = [m.exact_sigma(effective=False) / 0.3 for m in held(target)]
    assert own == pytest.approx(math.prod(exact), rel=0.02)
    assert own != online
    reach_target_update(model)
    assert torch.equal(values(model.q_net, model), values(target, model))


@pytest.mark.parametrize("algorithm", ALGORITHM)
def test_gradients_are_divided_after_they_are_clipped(algorithm: str) -> None:
    kwargs = {"max_grad_norm": 1e-3, "learning_starts": 20}
    model = make(algorithm=algorithm, policy_kwargs=steered("div_grad"), **kwargs)
    factor = float(model.q_net.scheduler.product())
    model.learn(21)
    states = model.policy.optimizer.state.values()
    assert {float(state["step"]) for state in states} == {1.0}
    first = torch.cat([state["exp_avg"].flatten() for state in states])  # (1 - β) g / R
    assert float(first.norm()) == pytest.approx(0.1 * 1e-3 / factor, rel=1e-3)
    assert factor > 2


def test_a_copied_policy_is_steered_by_its_own_norms() -> None:
    model = make(policy_kwargs=steered("div_grad"))
    twin = copy.deepcopy(model.policy)
    scheduler = twin.optimizer.scheduler
    assert scheduler is twin.q_net.scheduler
    assert scheduler.layers == held(twin.q_net)
    assert model.policy.optimizer.scheduler.layers == held(model.q_net)


@pytest.mark.parametrize("scheduler", ["div_grad", "mul_eps", "div_lr"])
@pytest.mark.parametrize("optimizer", [RMSprop, torch.optim.Adam])
def test_a_scheduler_of_steps_needs_the_optimiser_it_is_defined_on(
    scheduler: str, optimizer: Any
) -> None:
    with pytest.raises(ConfigError, match=r"found \w+\.\S+\.(Adam|RMSprop), or .*: use sndqn"):
        make(policy_kwargs=steered(scheduler, optimizer_class=optimizer, optimizer_kwargs=None))


def test_dividing_outputs_works_with_any_optimiser() -> None:
    kwargs = steered("div_out", optimizer_class=RMSprop, optimizer_kwargs={"eps": 0.01})
    model = make(policy_kwargs=kwargs, learning_rate=1e-3).learn(60)
    assert model.q_net.scheduler.name == "div_out"
    assert bool(torch.isfinite(values(model.q_net, model)).all())


def test_a_scheduler_without_tracking_is_refused() -> None:
    with pytest.raises(ConfigError, match="Type --sn-mode track"):
        make(policy_kwargs={"sn_scheduler": "div_grad"})
    with pytest.raises(ConfigError, match="expected layers to track, found none"):
        make(policy_kwargs={**steered("div_grad"), "sn_layers": "none"})


def test_a_noisy_head_under_normalisation_is_refused_with_what_would_do() -> None:
    with pytest.raises(SelectionError, match=r"is a noisy layer.*Select other layers"):
        make(policy_kwargs={"noisy": True})


@pytest.mark.parametrize("algorithm", ALGORITHM.values(), ids=ALGORITHM)
@pytest.mark.parametrize("extractor", [mlp, nature_cnn, der_cnn, minatar_cnn, impala_cnn])
def test_torsos_are_features_extractors_that_may_be_told_not_to_scale_images(
    extractor: Any, algorithm: type[StockDQN]
) -> None:
    assert issubclass(extractor, BaseFeaturesExtractor)
    env = TinyEnv(spaces.Box(0, 1, (2, 36, 36), np.float32))
    arguments = {"normalize_images": False, "features_extractor_class": extractor}
    model = algorithm(SNMlpPolicy, env, **FAST, policy_kwargs=arguments).learn(24)
    network: Any = model.q_net
    assert isinstance(network.features_extractor, extractor)
    assert network.features_extractor.features_dim == network.q_net[0].in_features
    assert not network.normalize_images


@pytest.mark.parametrize("algorithm", ALGORITHM.values(), ids=ALGORITHM)
def test_a_keyword_of_torchs_adam_trains_and_holds_the_bound(algorithm: type[StockDQN]) -> None:
    arguments = {"optimizer_kwargs": {"amsgrad": True}, "sn_layers": LAYERS}
    model = algorithm(SNMlpPolicy, make_vec_env("mlp"), **FAST, policy_kwargs=arguments)
    model.learn(200)
    state = model.policy.optimizer.state_dict()["state"]
    assert all("max_exp_avg_sq" in each for each in state.values())
    network: Any = model.q_net
    for layer in network.modules():
        if isinstance(layer, SpectralLayer):
            norm = torch.linalg.matrix_norm(layer.weight.detach(), 2)
            assert float(norm) <= 1.02 * float(layer.running_sigma)


@pytest.mark.parametrize("algorithm", ALGORITHM)
def test_weights_moved_between_trainings_act_with_their_bound(algorithm: str) -> None:
    model = make("mlp", algorithm)
    for _ in range(2):
        model.learn(40, reset_num_timesteps=False)
        for network in (model.q_net, model.q_net_target):
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.mul_(20)
            network.eval()
            assert excess(network) < 1e-3
