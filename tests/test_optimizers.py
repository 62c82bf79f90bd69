"""Our Adam is torch's."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sndqn.optimizers import Adam


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3), nn.Linear(3, 2))


def gradients(model: nn.Module, step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=generator) for p in model.parameters()]


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, frozen: int) -> None:
    """Steps with drawn gradients; the first parameters have none while the step is below 5."""
    for step in steps:
        for i, (p, g) in enumerate(zip(model.parameters(), gradients(model, step), strict=True)):
            p.grad = None if i < frozen and step < 5 else g
        optimizer.step()


@pytest.mark.parametrize("frozen", [0, 2])
@pytest.mark.parametrize("kwargs", [{}, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.01}])
def test_its_steps_are_those_of_torchs_fused_adam_to_the_bit(
    kwargs: dict[str, Any], frozen: int
) -> None:
    ours, theirs = network(), network()
    advance(ours, Adam(ours.parameters(), **kwargs), range(20), frozen)
    reference = torch.optim.Adam(theirs.parameters(), fused=True, **kwargs)
    advance(theirs, reference, range(20), frozen)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_step_with_given_gradients_is_a_step() -> None:
    ours, theirs = network(), network()
    optimizer, params = Adam(ours.parameters()), list(ours.parameters())
    for step in range(10):
        optimizer.apply(params, gradients(ours, step))
    advance(theirs, Adam(theirs.parameters()), range(10), 0)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def fused(params: Any) -> torch.optim.Adam:
    return torch.optim.Adam(params, fused=True)


@pytest.mark.parametrize(("first", "second"), [(Adam, fused), (fused, Adam), (Adam, Adam)])
def test_each_goes_on_from_the_state_the_other_saved(first: Any, second: Any) -> None:
    whole, halves = network(), network()
    advance(whole, Adam(whole.parameters()), range(12), 0)
    before = first(halves.parameters())
    advance(halves, before, range(6), 0)
    after = second(halves.parameters())
    weights = copy.deepcopy(halves.state_dict())
    advance(halves, after, range(100, 101), 0)  # a history of its own, to be forgotten
    halves.load_state_dict(weights)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    advance(halves, after, range(6, 12), 0)
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(a, b)
