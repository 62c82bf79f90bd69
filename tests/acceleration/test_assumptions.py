"""What compiled and captured updates go by is known, and a change of it is seen."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from variants import Variant, cartpoles, make, put_elsewhere

from sndqn.acceleration.assumptions import Assumptions

SHARED = ("gamma", "max_grad_norm", "double", "gradient_penalty", "gradient_penalty_threshold")
OWN = {
    "DQN": ("munchausen", "loss"),
    "C51": (),
    "QRDQN": ("munchausen", "huber_threshold"),
    "IQN": ("munchausen", "huber_threshold", "n_quantiles", "n_target_quantiles"),
}


def filled(variant: Variant = ("DQN", "plain"), **kwargs: Any) -> Any:
    """A model that has filled its replay and made no update yet."""
    return make(variant, cartpoles(2), **{"learning_starts": 10**6, **kwargs}).learn(100)


def change(model: Any, name: str, value: Any) -> None:
    """Changes an attribute as a callback does, and has the next `train` begin."""
    setattr(model, name, value)
    model.update.settings = model.current_settings()


@pytest.mark.parametrize("algorithm", ["DQN", "C51", "QRDQN", "IQN"])
def test_a_change_of_any_setting_is_seen_and_so_is_taking_it_back(algorithm: str) -> None:
    model = filled((algorithm, "plain"))
    assumptions = Assumptions(model.update)
    for name in (*SHARED, *OWN[algorithm]):
        kept = getattr(model, name)
        change(model, name, "another")
        assert not assumptions.still_hold(), name
        change(model, name, kept)
        assert assumptions.still_hold()


def test_a_change_within_munchausens_settings_is_seen() -> None:
    model = filled(("DQN", "munchausen"))
    assumptions = Assumptions(model.update)
    model.munchausen_settings["scale"] = 0.5
    model.update.settings = model.current_settings()
    assert not assumptions.still_hold()


def reload_state(model: Any) -> None:
    optimizer = model.policy.optimizer
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def put_target_elsewhere(model: Any) -> None:
    put_elsewhere(model.q_net_target)


def give_up_momentum(model: Any) -> None:
    model.policy.optimizer.param_groups[0]["betas"] = (0.0, 0.999)


@pytest.mark.parametrize("alter", [reload_state, put_target_elsewhere, give_up_momentum])
def test_other_moments_memory_or_decay_rates_are_seen(alter: Callable[[Any], None]) -> None:
    model = filled()
    assumptions = Assumptions(model.update)
    alter(model)
    assert not assumptions.still_hold()
    assert assumptions.networks_hold() == (alter is not put_target_elsewhere)
    assert Assumptions(model.update).still_hold()


def test_training_loading_and_syncing_change_nothing_of_it() -> None:
    model = filled()
    assumptions = Assumptions(model.update)
    model.train(8, batch_size=16)
    model.policy.load_state_dict(copy.deepcopy(model.policy.state_dict()))
    model.policy.load_from_vector(np.float32(0.5) * model.policy.parameters_to_vector())
    model.policy.optimizer.param_groups[0]["lr"] = 1e-5
    assert assumptions.still_hold()


def test_with_another_optimiser_networks_and_settings_are_watched() -> None:
    model = filled(policy_kwargs={"optimizer_class": torch.optim.SGD})
    assumptions = Assumptions(model.update)
    assert assumptions.still_hold()
    put_target_elsewhere(model)
    assert not assumptions.still_hold()
