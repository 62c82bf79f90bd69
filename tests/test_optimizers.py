"""Our Adam is torch's; our RMSprop is torch's, and TensorFlow's with ε inside the root."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.optimizers import Adam, RMSprop
from sndqn.spectral import normalize_layers
from sndqn.spectral.schedulers import SpectralScheduler


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
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.01},
        {"weight_decay": 0.1},
        {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
)
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


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_steps_counted_at_once_are_those_counted_one_by_one_and_made_by_their_sizes(
    weight_decay: float, decoupled: bool
) -> None:
    ours, theirs = network(), network()
    params, others = list(ours.parameters()), list(theirs.parameters())
    decay: Any = {"weight_decay": weight_decay, "decoupled_weight_decay": decoupled}
    optimizer, reference = Adam(params, lr=0.1, **decay), Adam(others, lr=0.1, **decay)
    first = optimizer.advance(0, params)
    sizes = first + optimizer.advance(0, params, 9)
    alone = Adam(list(network().parameters()), lr=0.1)
    assert sizes == [alone.advance(0, alone.param_groups[0]["params"])[0] for _ in range(10)]
    for step, size in enumerate(sizes):
        optimizer.apply(params, gradients(ours, step), sizes=torch.tensor(size))
        reference.apply(others, gradients(theirs, step))
    for a, b in zip(params, others, strict=True):
        assert float(optimizer.state[a]["step"]) == 10
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


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


@pytest.mark.parametrize("frozen", [0, 2])
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("kwargs", [{}, {"lr": 0.01, "eps": 0.01}, {"weight_decay": 0.1}])
def test_rmsprop_with_epsilon_outside_the_root_is_torchs(
    kwargs: dict[str, Any], centered: bool, frozen: int
) -> None:
    ours, theirs = network(), network()
    advance(ours, RMSprop(ours.parameters(), centered=centered, **kwargs), range(100), frozen)
    settings = {"lr": 2.5e-4, "eps": 1e-5, **kwargs}
    reference = torch.optim.RMSprop(theirs.parameters(), alpha=0.95, centered=centered, **settings)
    advance(theirs, reference, range(100), frozen)
    for a, b, start in zip(
        ours.parameters(), theirs.parameters(), network().parameters(), strict=True
    ):
        assert not torch.equal(a, start)
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def rmsprop_by_numpy(
    weight: np.ndarray, gradients: list[np.ndarray], *, centered: bool, inside: bool
) -> np.ndarray:
    lr, decay, eps = 0.01, 0.9, 1e-3
    square_avg = grad_avg = np.zeros_like(weight)
    for g in gradients:
        square_avg = decay * square_avg + (1 - decay) * g**2
        grad_avg = decay * grad_avg + (1 - decay) * g
        variance = square_avg - grad_avg**2 if centered else square_avg
        denominator = np.sqrt(variance + eps) if inside else np.sqrt(variance) + eps
        weight = weight - lr * g / denominator
    return weight


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_rmsprop_is_its_formula(centered: bool, inside: bool) -> None:
    model = network().double()
    expected = [
        rmsprop_by_numpy(p.detach().numpy().copy(), list(g), centered=centered, inside=inside)
        for p, *g in zip(
            model.parameters(),
            *([g.double().numpy() for g in gradients(model, step)] for step in range(100)),
            strict=True,
        )
    ]
    optimizer = RMSprop(
        model.parameters(), lr=0.01, decay=0.9, eps=1e-3, centered=centered, eps_inside_root=inside
    )
    for step in range(100):
        for p, g in zip(model.parameters(), gradients(model, step), strict=True):
            p.grad = g.double()
        optimizer.step()
    for p, numbers in zip(model.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), numbers, rtol=1e-10, atol=1e-12)


def test_the_place_of_epsilon_matters_where_gradients_are_small() -> None:
    steps = []
    for inside in (False, True):
        p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = RMSprop(
            [p], lr=1.0, decay=0.0, eps=1e-4, centered=False, eps_inside_root=inside
        )
        p.grad = torch.full_like(p, 1e-8)
        optimizer.step()
        steps.append(-p.item())
    assert steps == pytest.approx([1e-8 / (1e-8 + 1e-4), 1e-8 / (1e-16 + 1e-4) ** 0.5])


@pytest.mark.parametrize("kwargs", [{"centered": True}, {"centered": False, "eps": 0.1}])
def test_rmsprop_goes_on_from_a_saved_state_to_the_bit(kwargs: dict[str, Any]) -> None:
    whole, halves = network(), network()
    advance(whole, RMSprop(whole.parameters(), eps_inside_root=True, **kwargs), range(12), 2)
    before = RMSprop(halves.parameters(), eps_inside_root=True, **kwargs)
    advance(halves, before, range(3), 2)  # while some parameters have no state yet
    after = RMSprop(halves.parameters(), lr=1.0, decay=0.0)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    advance(halves, after, range(3, 12), 2)
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(a, b)


def test_rmsprop_goes_on_from_a_state_that_was_saved_without_weight_decay() -> None:
    model = network()
    optimizer = RMSprop(model.parameters())
    advance(model, optimizer, range(3), 0)
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["weight_decay"]
    optimizer.load_state_dict(saved)
    advance(model, optimizer, range(3, 6), 0)
    assert optimizer.param_groups[0]["weight_decay"] == 0


def test_a_deep_copy_of_rmsprop_goes_on_by_itself() -> None:
    model = network()
    optimizer = RMSprop(model.parameters())
    advance(model, optimizer, range(5), 0)
    other, other_optimizer = copy.deepcopy((model, optimizer))
    frozen_in_time = [p.detach().clone() for p in other.parameters()]
    advance(model, optimizer, range(5, 9), 0)
    for a, b in zip(other.parameters(), frozen_in_time, strict=True):
        assert torch.equal(a, b)
    advance(other, other_optimizer, range(5, 9), 0)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_each_group_of_rmsprop_has_its_own_settings() -> None:
    together, first, second = network(), network(), network()
    settings = {"lr": 0.1, "centered": False, "eps_inside_root": True}
    groups = [
        {"params": list(together[0].parameters())},
        {"params": list(together[1:].parameters()), **settings},
    ]
    advance(together, RMSprop(groups), range(6), 0)
    advance(first, RMSprop(first.parameters()), range(6), 0)
    advance(second, RMSprop(second.parameters(), **settings), range(6), 0)
    expected = [*first[0].parameters(), *second[1:].parameters()]
    for a, b in zip(together.parameters(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_a_parameter_without_gradient_stays_and_gets_no_state() -> None:
    model = network()
    optimizer = RMSprop(model.parameters())
    before = model[0].weight.detach().clone()
    advance(model, optimizer, range(3), 2)
    assert torch.equal(model[0].weight, before)
    assert not optimizer.state[model[0].weight]
    empty = RMSprop(network().parameters())
    empty.step()
    assert not empty.state_dict()["state"]


def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned() -> None:
    model, inputs = network(), torch.ones(4, 5)
    optimizer = RMSprop(model.parameters(), lr=1e-3)

    def closure() -> float:
        optimizer.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        return loss.item()

    losses = [optimizer.step(closure) for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("inside", [True, False])
def test_gradients_of_no_variance_never_make_a_nan(inside: bool) -> None:
    p = nn.Parameter(torch.zeros(10_000))
    optimizer = RMSprop([p], eps=1e-30, eps_inside_root=inside)
    constant = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    for _ in range(600):  # until rounding leaves some variances below zero
        p.grad = constant
        optimizer.step()
    state = optimizer.state[p]
    assert bool((state["square_avg"] < state["grad_avg"].square()).any())
    assert bool(p.isfinite().all())


def test_the_state_of_rmsprop_has_its_parameters_memory_format() -> None:
    convolution = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = RMSprop(convolution.parameters())
    convolution(torch.rand(2, 4, 6, 6)).sum().backward()
    optimizer.step()
    state = optimizer.state[convolution.weight]
    assert set(state) == {"square_avg", "grad_avg"}
    for mean in state.values():
        assert mean.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lr": -1.0}, "lr: expected 0 or more, found -1"),
        ({"decay": 1.0}, "decay: expected 0 or more and less than 1, found 1"),
        ({"eps": 0.0}, "eps: expected a positive number, found 0"),
    ],
)
def test_rmsprop_refuses_numbers_out_of_range(kwargs: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RMSprop(network().parameters(), **kwargs)


def tracked() -> nn.Sequential:
    return normalize_layers(network(), ["0", "2"], mode="track", bound=0.5)  # type: ignore[return-value]


def scheduled(model: nn.Module, name: Any) -> Adam:
    optimizer = Adam(model.parameters(), lr=0.01, eps=0.1)
    optimizer.scheduler = SpectralScheduler(model, name)
    return optimizer


@pytest.mark.parametrize("name", ["div_grad", "mul_eps", "div_lr"])
@pytest.mark.parametrize("frozen", [0, 2])
def test_a_scheduled_adam_goes_on_from_a_saved_state_and_stays_scheduled(
    name: str, frozen: int
) -> None:
    whole, halves = tracked(), tracked()
    advance(whole, scheduled(whole, name), range(12), frozen)
    before = scheduled(halves, name)
    advance(halves, before, range(6), frozen)
    after = scheduled(halves, name)
    scheduler = after.scheduler
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    assert after.scheduler is scheduler
    advance(halves, after, range(6, 12), frozen)
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["div_grad", "mul_eps", "div_lr"])
def test_the_state_of_a_scheduled_adam_is_torchs(name: str) -> None:
    ours = tracked()
    optimizer = scheduled(ours, name)
    advance(ours, optimizer, range(3), 0)
    theirs = network()
    reference = torch.optim.Adam(theirs.parameters())
    advance(theirs, reference, range(1), 0)
    reference.load_state_dict(optimizer.state_dict())
    assert {float(state["step"]) for state in reference.state.values()} == {3.0}
    for a, b in zip(optimizer.state.values(), reference.state.values(), strict=True):
        assert set(a) == set(b)
        assert torch.equal(a["exp_avg_sq"], b["exp_avg_sq"])


@pytest.mark.parametrize("name", ["div_grad", "mul_eps", "div_lr"])
def test_a_scheduled_step_with_given_gradients_is_a_step_and_leaves_them_alone(name: str) -> None:
    ours, theirs = tracked(), tracked()
    optimizer, params = scheduled(ours, name), list(ours.parameters())
    for step in range(10):
        given = gradients(ours, step)
        optimizer.apply(params, given)
        assert all(map(torch.equal, given, gradients(ours, step)))
    advance(theirs, scheduled(theirs, name), range(10), 0)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_copied_adam_comes_without_its_scheduler() -> None:
    # Which would look at the original's norms: whoever copies says whose it is to look at.
    assert copy.deepcopy(scheduled(tracked(), "div_grad")).scheduler is None


def test_adam_takes_gradients_and_a_loaded_state_that_lie_otherwise_than_their_weights() -> None:
    """torch's fused step reads all of them in the order of memory."""
    weights = [nn.Parameter(torch.arange(12.0).view(3, 4) / 12) for _ in range(2)]
    plain, transposed = (Adam([w]) for w in weights)
    weights[1].data = weights[1].detach().t().contiguous().t()
    for step in range(3):
        gradient = torch.sin(torch.arange(12.0).view(3, 4) + step)
        loaded = copy.deepcopy(plain.state_dict())
        plain.apply([weights[0]], [gradient])
        transposed.load_state_dict(loaded)
        transposed.apply([weights[1]], [gradient])
        assert torch.equal(weights[0], weights[1])
        assert transposed.state[weights[1]]["exp_avg"].stride() == (1, 3)


def test_adam_goes_on_with_weights_that_come_to_lie_otherwise() -> None:
    staying, moved = (nn.Parameter(torch.arange(12.0).view(3, 4) / 12) for _ in range(2))
    optimizers = [Adam([w]) for w in (staying, moved)]
    for step in range(3):
        gradient = torch.sin(torch.arange(12.0).view(3, 4) + step)
        optimizers[0].apply([staying], [gradient])
        optimizers[1].apply([moved], [gradient])
        assert torch.equal(staying, moved)
        moved.data = moved.detach().t().contiguous().t() if step == 0 else moved.detach().clone()


@pytest.mark.parametrize(
    "flags",
    [
        {"amsgrad": True},
        {"maximize": True},
        {"foreach": True},
        {"fused": False},
        {"fused": True},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"amsgrad": True, "maximize": True, "weight_decay": 0.1},
        {"lr": torch.tensor(0.01)},
    ],
    ids=lambda flags: "-".join(flags),
)
def test_every_keyword_of_torchs_adam_gives_torchs_steps(flags: dict[str, Any]) -> None:
    ours, theirs = network(), network()
    for model, kind in ((ours, Adam), (theirs, torch.optim.Adam)):
        parts = list(model.parameters())
        groups = [{"params": parts[:2], "lr": 0.1}, {"params": parts[2:]}]
        groups = groups if "lr" not in flags else [{"params": parts}]
        optimizer = kind(groups, **flags)
        for step in range(6):
            for p, g in zip(parts, gradients(model, step), strict=True):
                p.grad = g
            optimizer.step(lambda: torch.zeros(()))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)


def test_torchs_steps_after_our_own_count_on() -> None:
    ours, theirs = network(), network()
    for model, optimizer in (
        (ours, Adam(ours.parameters())),
        (theirs, torch.optim.Adam(theirs.parameters(), fused=True)),
    ):
        advance(model, optimizer, range(5, 8), 0)
        optimizer.param_groups[0].update(maximize=True)
        advance(model, optimizer, range(8, 11), 0)
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_hooks_run_once_a_step_also_where_torch_makes_it() -> None:
    model = network()
    optimizer = Adam(model.parameters(), amsgrad=True)
    torch.optim.Adam(network().parameters())  # whose class gets hooks of its own
    calls: list[int] = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    advance(model, optimizer, range(3), 0)
    assert len(calls) == 3
