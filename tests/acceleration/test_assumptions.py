"""What compiled and captured updates go by is known, and a change of it is seen."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from variants import VARIANTS, Variant, cartpoles, make, put_elsewhere

from sndqn.acceleration.assumptions import Assumptions

# These are the shape of a network's head; another number means another network.
OF_THE_HEAD = {"n_quantiles", "n_target_quantiles"}


def filled(variant: Variant = ("DQN", "plain"), **kwargs: Any) -> Any:
    """A model that has filled its replay and made no update yet."""
    return make(variant, cartpoles(2), **{"learning_starts": 10**6, **kwargs}).learn(100)


@pytest.mark.parametrize("variant", [pytest.param(v, id="-".join(v)) for v in VARIANTS])
def test_every_setting_that_an_update_reads_is_known(variant: Variant) -> None:
    model = filled(variant)
    batch, read = model._draw(16), set()

    class Watched(type(model)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if isinstance(value, int | float | str | dict | None) and not name.startswith("_"):
                read.add(name)
            return value

    model.__class__ = Watched
    model.update(batch)
    assert "max_grad_norm" in read
    assert read <= {*model.setting_names, *OF_THE_HEAD}


@pytest.mark.parametrize("algorithm", ["DQN", "C51", "QRDQN", "IQN"])
def test_a_change_of_any_setting_is_seen_and_so_is_taking_it_back(algorithm: str) -> None:
    model = filled((algorithm, "plain"))
    assumptions = Assumptions(model)
    for name in model.setting_names:
        kept = copy.copy(getattr(model, name))
        if isinstance(kept, dict):
            getattr(model, name)["scale"] = 0.5
        else:
            setattr(model, name, "another")
        assert not assumptions.hold(), name
        setattr(model, name, kept)
        assert assumptions.hold()


def reload_state(model: Any) -> None:
    optimizer = model.policy.optimizer
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def put_target_elsewhere(model: Any) -> None:
    put_elsewhere(model.q_net_target)


def give_up_momentum(model: Any) -> None:
    model.policy.optimizer.param_groups[0]["betas"] = (0.0, 0.999)


@pytest.mark.parametrize("change", [reload_state, put_target_elsewhere, give_up_momentum])
def test_other_moments_memory_or_decay_rates_are_seen(change: Callable[[Any], None]) -> None:
    model = filled()
    assumptions = Assumptions(model)
    change(model)
    assert not assumptions.hold()
    assert assumptions.networks_hold() == (change is not put_target_elsewhere)
    assert Assumptions(model).hold()


def test_training_loading_and_syncing_change_nothing_of_it() -> None:
    model = filled()
    assumptions = Assumptions(model)
    model.train(8, batch_size=16)
    model.policy.load_state_dict(copy.deepcopy(model.policy.state_dict()))
    model.policy.load_from_vector(np.float32(0.5) * model.policy.parameters_to_vector())
    model.policy.optimizer.param_groups[0]["lr"] = 1e-5
    assert assumptions.hold()


def test_with_another_optimiser_networks_and_settings_are_watched() -> None:
    model = filled(policy_kwargs={"optimizer_class": torch.optim.SGD})
    assumptions = Assumptions(model)
    assert assumptions.hold()
    put_target_elsewhere(model)
    assert not assumptions.hold()
