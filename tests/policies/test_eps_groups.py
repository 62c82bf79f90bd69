"""An optimiser's ε by layer: which parameters have it, and that steps go by it."""

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import nn

import sndqn
from sndqn.errors import ConfigError, SelectionError
from sndqn.optimizers import Adam, RMSprop
from sndqn.policies import SNMlpPolicy
from sndqn.spectral import weight_layers

EPS = {"-2": 0.5, "q_net.0": 0.25}


def make(**policy: Any) -> Any:
    small: dict[str, Any] = {"learning_starts": 20, "buffer_size": 200, "seed": 0, "device": "cpu"}
    kwargs = {"net_arch": [16, 16], "optimizer_eps_layers": EPS, **policy}
    env = gym.make("CartPole-v1")
    return sndqn.DQN(SNMlpPolicy, env, policy_kwargs=kwargs, compile=False, **small)


def eps_by_layer(model: Any) -> dict[int, float]:
    found = {
        id(parameter): group["eps"]
        for group in model.policy.optimizer.param_groups
        for parameter in group["params"]
    }
    layers = weight_layers(model.q_net)
    assert all(found[id(e.layer.weight)] == found[id(e.layer.bias)] for e in layers)
    return {entry.index: found[id(entry.layer.weight)] for entry in layers}


def test_layers_have_the_eps_of_their_selection_and_the_others_the_optimisers() -> None:
    model = make(optimizer_kwargs={"eps": 1e-3})
    assert eps_by_layer(model) == {-3: 0.25, -2: 0.5, -1: 1e-3}
    assert len(list(model.q_net.parameters())) == len(model.update.parameters)


@pytest.mark.parametrize("optimizer", [Adam, torch.optim.Adam, RMSprop])
def test_each_layer_steps_by_its_own_eps(optimizer: Any) -> None:
    model = make(optimizer_class=optimizer, optimizer_kwargs={"eps": 1e-3}, sn_layers="none")
    model.learn(40)
    twin: nn.Module = copy.deepcopy(model.q_net)
    layers = {entry.index: entry.layer for entry in weight_layers(twin)}
    by_hand = []
    for index, eps in {-3: 0.25, -2: 0.5, -1: 1e-3}.items():
        stepper = optimizer(layers[index].parameters(), lr=model.learning_rate, eps=eps)
        original = {entry.index: entry.layer for entry in weight_layers(model.q_net)}[index]
        for own, known in zip(layers[index].parameters(), original.parameters(), strict=True):
            stepper.state[own] = copy.deepcopy(model.policy.optimizer.state[known])
        by_hand.append(stepper)
    batch = model.draw_samples(32)
    gradients = model.update.gradients(batch).gradients
    known = {id(p): g for p, g in zip(model.update.parameters, gradients, strict=True)}
    for own, original in zip(twin.parameters(), model.q_net.parameters(), strict=True):
        own.grad = known[id(original)].clone()
    model.update.step(gradients)
    for stepper in by_hand:
        stepper.step()
    for own, original in zip(twin.parameters(), model.q_net.parameters(), strict=True):
        torch.testing.assert_close(own, original, rtol=1e-6, atol=1e-8)


def test_a_saved_model_has_its_eps_and_trains_on_as_it_would_have(tmp_path: Path) -> None:
    model = make()
    model.learn(40)
    model.save(tmp_path / "model")
    loaded = sndqn.DQN.load(tmp_path / "model", env=gym.make("CartPole-v1"))
    assert eps_by_layer(loaded) == eps_by_layer(model)
    loaded.replay_buffer = model.replay_buffer
    batch = model.draw_samples(32)
    for each in (model, loaded):
        each.update(batch)
    for a, b in zip(model.q_net.parameters(), loaded.q_net.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        ({"optimizer_eps_layers": {"-9": 1.0}}, SelectionError, "optimizer_eps_layers: no layer"),
        ({"optimizer_eps_layers": {"": 1.0}}, SelectionError, "optimizer_eps_layers: expected"),
        ({"optimizer_eps_layers": {"-2": 0.0}}, ConfigError, "-2: expected a number above 0"),
        ({"optimizer_eps_layers": {"-2": 1.0, "all": 2.0}}, ConfigError, "each layer once"),
        ({"optimizer_class": torch.optim.SGD}, ConfigError, "an optimiser with an ε, found SGD"),
    ],
)
def test_what_cannot_be_is_refused(policy: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make(**policy)
