"""An update: weighted, clipped gradients of the loss, a step, and σ of the new weights."""

import copy
from typing import Any

import pytest
import torch
from variants import ALGORITHMS, VARIANTS, Variant, cartpoles, differences, held, make, state

from sndqn.replay import split


def filled(variant: Variant, **kwargs: Any) -> Any:
    """A model that has filled its replay and made no update yet."""
    return make(variant, cartpoles(2), learning_starts=10**6, **kwargs).learn(100)


@pytest.mark.parametrize("variant", [("DQN", "plain"), ("DQN", "double")], ids="-".join)
def test_gradients_move_no_vector_and_an_optimiser_step_refines_once(variant: Variant) -> None:
    model = filled(variant)
    start = state(model.q_net)
    gradients, _, _ = model.update.gradients(model.draw_samples(16))
    assert differences(state(model.q_net), start) == []
    model.update.step(gradients)
    for name, layer in model.q_net.named_modules():
        if layer not in held(model.q_net):
            continue
        twin = copy.deepcopy(layer)
        for key in ("running_u", "running_v", "running_sigma"):
            getattr(twin, key).copy_(start[f"{name}.{key}"])
        twin.refine()
        assert differences(state(layer), state(twin)) == []
        assert not torch.equal(layer.running_v, start[f"{name}.running_v"])


def test_an_update_is_its_gradients_and_a_step() -> None:
    model, twin = (filled(("IQN", "noisy")) for _ in range(2))
    samples = model.draw_samples(16)
    torch.manual_seed(1)
    priorities, logs = model.update(samples)
    torch.manual_seed(1)
    twin.update.draw_noise()
    gradients, expected, _ = twin.update.gradients(samples)
    twin.update.step(gradients)
    assert differences(state(model.policy), state(twin.policy)) == []
    assert torch.equal(priorities, expected)
    assert logs.keys() == {"loss", "q_mean", "q_max", "grad_norm"}
    assert not any(value.requires_grad for value in (priorities, *logs.values()))


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_an_update_reads_its_record_and_nothing_else_of_the_algorithm(variant: Variant) -> None:
    model = filled(variant)
    batch = model.draw_samples(16)
    expected = model.update.gradients(batch)
    for name in vars(model.update.settings) | vars(model.update.settings.loss):
        setattr(model, name, "another")
    model.munchausen_settings = {}
    found = model.update.gradients(batch)
    assert all(map(torch.equal, found.gradients, expected.gradients))


def test_training_goes_by_the_attributes_as_they_are() -> None:
    """A callback may change them."""
    model = filled(("DQN", "munchausen"))
    model.gamma, model.max_grad_norm = 0.5, None
    model.munchausen_settings["scale"] = 0.7
    model.train(1, batch_size=16)
    settings = model.update.settings
    assert (settings.loss.gamma, settings.max_grad_norm) == (0.5, None)
    assert settings.loss.munchausen.scale == 0.7
    assert "grad_norm" not in model.update(model.draw_samples(16))[1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_importance_weights_weigh_each_samples_gradient(algorithm: str) -> None:
    model = make((algorithm, "prioritized-3-steps"), max_grad_norm=None, learning_starts=10**6)
    batch = split(model.learn(50).draw_samples(16), 16)[0]
    parts = [
        model.update.gradients(batch._replace(weights=torch.zeros(16, 1).index_fill(0, rows, 1.0)))
        for rows in (torch.tensor([3]), torch.tensor([7, 8]))
    ]
    weights = torch.zeros(16, 1)
    weights[3], weights[7:9] = 0.5, 2.0
    whole = model.update.gradients(batch._replace(weights=weights))
    for a, b, both in zip(*[p.gradients for p in parts], whole.gradients, strict=True):
        torch.testing.assert_close(0.5 * a + 2 * b, both, rtol=1e-4, atol=1e-6)
    assert torch.equal(whole.priorities, parts[0].priorities), "which no weight changes"
