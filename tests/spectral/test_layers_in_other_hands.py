"""Layers where others move the weight, choose the dtype, or bring transformations of their own."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils import parametrizations, parametrize, prune

from sndqn.errors import ConfigError
from sndqn.spectral import SpectralLayer, SpectralLinear, exact_norm, spectral_norm

HALF = [torch.bfloat16, torch.float16]


@pytest.fixture(params=["linear", "large", "operator", "kernel"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(kind: str, **settings: Any) -> tuple[SpectralLayer, Tensor]:
    torch.manual_seed(0)
    if kind in ("linear", "large"):
        n = 24 if kind == "linear" else 200
        return spectral_norm(nn.Linear(12, n), **settings), torch.randn(5, 12)
    layer = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    settings = {"input_size": (9, 10), "conv_norm": kind, **settings}
    return spectral_norm(layer, **settings), torch.randn(5, 3, 9, 10)


def acting_norm(layer: SpectralLayer) -> float:
    """The exact norm of what a pass in evaluation mode multiplies by."""
    return exact_norm(layer.effective_weight.detach(), **layer.norm_arguments())


def set_by_copy(weight: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        weight.copy_(value)


def set_by_data(weight: Tensor, value: Tensor) -> None:
    weight.data = value.clone()


def set_past_autograd(weight: Tensor, value: Tensor) -> None:
    weight.data.copy_(value)


@pytest.mark.parametrize("setter", [set_by_copy, set_by_data, set_past_autograd])
@pytest.mark.parametrize("gain", [1e-3, 0.2, 10.0])
def test_a_weight_that_was_set_after_normalisation_acts_with_its_bound(
    kind: str, gain: float, setter: Any
) -> None:
    layer, x = make(kind)
    layer.eval()
    layer(x)
    setter(layer.weight, gain * torch.randn_like(layer.weight))
    layer(x)
    assert acting_norm(layer) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("initialise", [nn.init.orthogonal_, nn.init.zeros_, nn.init.ones_])
def test_initialisers_applied_after_normalisation_keep_the_bound(
    kind: str, initialise: Any
) -> None:
    layer, x = make(kind)
    layer.eval()
    for fill in (initialise, nn.init.xavier_normal_):
        fill(layer.weight)
        assert bool(torch.isfinite(layer(x)).all())
        assert acting_norm(layer) <= 1.001


@pytest.mark.parametrize("by_data", [False, True])
@pytest.mark.parametrize("tau", [0.05, 1.0])
def test_a_target_that_follows_by_parameters_alone_keeps_its_bound(
    tau: float, by_data: bool
) -> None:
    torch.manual_seed(0)
    hidden = spectral_norm(nn.Linear(64, 64))
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), hidden, nn.ReLU(), nn.Linear(64, 1))
    target = copy.deepcopy(net).eval()
    held: Any = target[2]
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    x = torch.randn(128, 8)
    y = 30 * torch.sin(3 * x[:, :1])
    worst = 0.0
    for step in range(1000):
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for p, q in zip(net.parameters(), target.parameters(), strict=True):
            moved = torch.lerp(q.detach(), p.detach(), tau)
            (set_past_autograd if by_data else set_by_copy)(q, moved)
        if step % 10 == 9:
            target(x)
            worst = max(worst, acting_norm(held))
    assert exact_norm(held.weight.detach()) > 2  # it has moved
    assert worst <= 1.02


def test_an_average_of_weights_keeps_its_bound(kind: str) -> None:
    layer, x = make(kind)
    average = torch.optim.swa_utils.AveragedModel(layer).eval()
    for _ in range(5):
        set_by_copy(layer.weight, 3 * torch.randn_like(layer.weight))
        average.update_parameters(layer)  # type: ignore[no-untyped-call]
    average(x)
    held: Any = average.module
    assert acting_norm(held) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (4,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_a_linear_layer_takes_the_batch_shapes_that_torch_takes(
    shape: tuple[int, ...], training: bool
) -> None:
    layer = SpectralLinear(6, 5).train(training)
    x = torch.randn(*shape, 6, requires_grad=True)
    z = layer(x)
    assert z.shape == (*shape, 5)
    z.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    plain = nn.functional.linear(x, layer.weight / layer.running_sigma, layer.bias)
    torch.testing.assert_close(z, plain)


@pytest.mark.parametrize("training", [True, False])
def test_a_convolution_takes_one_image_as_well_as_a_batch(training: bool) -> None:
    layer = spectral_norm(nn.Conv2d(3, 4, 3), input_size=(6, 6)).train(training)
    batch = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(layer(batch[0]), layer.eval()(batch)[0], rtol=1e-4, atol=1e-5)
    assert layer.train(training)(batch[:0]).shape == (0, 4, 4, 4)


def test_an_input_of_the_wrong_width_is_refused_as_by_torch() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        SpectralLinear(6, 5)(torch.randn(3, 4))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_is_float32_to_its_own_rounding(
    kind: str, dtype: torch.dtype, when: str, training: bool
) -> None:
    layer, x = make(kind)
    if when == "after":
        half = copy.deepcopy(layer).to(dtype)
    else:
        plain = nn.Linear(12, len(layer.weight)) if x.ndim == 2 else nn.Conv2d(3, 8, 3, 2, 1)
        plain.load_state_dict(
            {k: v for k, v in layer.state_dict().items() if k in plain._parameters}
        )
        norm: Any = {"conv_norm": "kernel" if kind == "kernel" else "operator"}
        half = spectral_norm(plain.to(dtype), input_size=(9, 10), **norm)
    assert half.running_sigma.dtype == half.running_u.dtype == torch.float32
    results = []
    for module, values in ((layer, x), (half, x.to(dtype))):
        inputs = values.requires_grad_()
        z = module.train(training)(inputs)
        weighted = torch.linspace(-1, 1, z.numel()).view_as(z).to(z.dtype)
        gradients = torch.autograd.grad((z * weighted).sum(), [module.weight, module.bias, inputs])
        results.append([z, *gradients])
    for full, coarse in zip(*results, strict=True):
        assert coarse.dtype == dtype
        error = (coarse.detach().float() - full.detach()).abs().max() / full.detach().abs().max()
        assert float(error) < 4 * torch.finfo(dtype).eps
    assert acting_norm(half.eval()) == pytest.approx(1, rel=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["normalize", "track"])
def test_autocast_gives_the_dtypes_that_plain_layers_give(
    kind: str, dtype: torch.dtype, training: bool, mode: Any
) -> None:
    layer, x = make(kind, mode=mode)
    plain = nn.Linear(12, len(layer.weight)) if x.ndim == 2 else nn.Conv2d(3, 8, 3, 2, 1)
    with torch.autocast("cpu", dtype):
        z, expected = layer.train(training)(x), plain(x)
        assert z.dtype == expected.dtype == dtype
        z.float().square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == layer.running_sigma.dtype == torch.float32


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_on_the_meta_device_has_shapes_and_finds_sigma_once_it_has_values(
    kind: str, training: bool
) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        layer, x = make(kind, bound=0.5)
    assert layer.train(training)(x).is_meta
    real, _ = make(kind)
    for how in ("empty", "assigned", "loaded"):
        later: Any = copy.deepcopy(layer)
        state: Any = {"weight": real.weight.detach(), "bias": real.bias}
        if how == "assigned":
            later.load_state_dict(state, assign=True)
        else:
            later.to_empty(device="cpu")
            nn.init.normal_(later.weight)
            nn.init.zeros_(later.bias)
            if how == "loaded":
                later.load_state_dict(state)
        assert bool(torch.isfinite(later(torch.randn(x.shape))).all())
        assert acting_norm(later) == pytest.approx(0.5, rel=1e-3), how


def test_a_whole_state_loads_into_a_layer_from_the_meta_device(kind: str) -> None:
    real, x = make(kind, bound=0.7)
    with torch.device("meta"):
        layer, _ = make(kind, bound=0.7)
    layer.load_state_dict(real.state_dict(), assign=True)
    assert torch.equal(layer.eval()(x), real.eval()(x))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_by_sample_are_those_of_each_sample(kind: str, training: bool) -> None:
    layer, x = make(kind)
    layer.train(training)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    before = copy.deepcopy(layer.state_dict())

    def loss(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        output: Tensor = functional_call(layer, parameters, (sample[None],))
        return output.square().sum()

    found = vmap(grad(loss), (None, 0))(parameters, x)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name
    for i in range(len(x)):
        layer.load_state_dict(before)
        layer.zero_grad()
        layer(x[i : i + 1]).square().sum().backward()
        assert layer.weight.grad is not None
        torch.testing.assert_close(found["weight"][i], layer.weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own
def test_forward_derivatives_go_through(kind: str) -> None:
    layer, x = make(kind)
    layer.eval()
    _, slope = jvp(layer, (x,), (x,))
    assert isinstance(layer.bias, Tensor)
    bias = layer.bias if x.ndim == 2 else layer.bias[:, None, None]
    torch.testing.assert_close(slope, layer(x) - bias, rtol=1e-4, atol=1e-5)


def weight_normalised() -> nn.Module:
    return parametrizations.weight_norm(nn.Linear(4, 3))


def pruned() -> nn.Module:
    return prune.random_unstructured(nn.Linear(4, 3), "weight", amount=0.5)  # type: ignore[no-untyped-call]


def normalised_by_torch() -> nn.Module:
    return parametrizations.spectral_norm(nn.Linear(4, 3))


def parametrised() -> nn.Module:
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", nn.Identity())
    return layer


def lazy() -> nn.Module:
    return nn.LazyLinear(3)


@pytest.mark.parametrize(
    "made",
    [weight_normalised, pruned, normalised_by_torch, parametrised, lazy, lambda: make("linear")[0]],
)
def test_a_layer_whose_weight_something_else_makes_is_refused(made: Any) -> None:
    with pytest.raises(ConfigError, match="spectral_norm: expected a"):
        spectral_norm(made())


@pytest.mark.parametrize("layer", [nn.Linear(4, 4, dtype=torch.complex64)])
def test_a_weight_without_a_norm_to_hold_is_refused(layer: nn.Module) -> None:
    with pytest.raises(ConfigError, match="expected a real weight"):
        spectral_norm(layer)


def test_a_state_of_another_number_of_vectors_loads_with_its_sigma(kind: str) -> None:
    layer, x = make(kind)
    other, _ = make(kind, bound=0.3)
    set_by_copy(other.weight, torch.randn_like(other.weight))
    other.reset_sigma()
    state = other.state_dict()
    vectors = {name: state[name][:1] for name in ("running_u", "running_v")}
    shape = layer.running_u.shape
    layer.load_state_dict({**state, **vectors})
    assert layer.running_u.shape == shape
    assert torch.equal(layer.weight, other.weight)
    assert float(layer.bound) == pytest.approx(0.3)
    assert torch.equal(layer.running_sigma, other.running_sigma)
    layer.eval()(x)
    assert math.isclose(acting_norm(layer), 0.3, rel_tol=1e-4)
