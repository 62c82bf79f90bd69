"""The layers: what they compute, what they keep, what breaks them and what mends them."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.spectral import (
    SpectralConv2d,
    SpectralLayer,
    SpectralLinear,
    normalize_layers,
    remove_spectral_norm,
    spectral_norm,
)

CONVOLUTION: dict[str, Any] = {"input_size": (9, 10)}


@pytest.fixture(params=["linear", "operator", "kernel"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(kind: str, **settings: Any) -> tuple[SpectralLayer, Tensor]:
    torch.manual_seed(0)
    if kind == "linear":
        return spectral_norm(nn.Linear(12, 7), **settings), torch.randn(5, 12)
    layer = nn.Conv2d(3, 6, 3, stride=2, padding=1)
    return spectral_norm(layer, input_size=(9, 10), conv_norm=kind, **settings), torch.randn(
        5, 3, 9, 10
    )


def plain_output(layer: SpectralLayer, x: Tensor, weight: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, weight, layer.bias)
    assert isinstance(layer, nn.Conv2d)
    return nn.functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding)


def test_a_new_layer_acts_with_its_bound(kind: str) -> None:
    layer, _ = make(kind, bound=2.5)
    assert layer.exact_sigma() == pytest.approx(2.5, rel=1e-5)


def test_output_is_that_of_the_normalised_weight(kind: str) -> None:
    layer, x = make(kind)
    weight = layer.weight / layer.exact_sigma(effective=False)
    torch.testing.assert_close(layer(x), plain_output(layer, x, weight), rtol=1e-4, atol=1e-5)


def test_training_keeps_the_bound_and_a_jump_is_recovered_from(kind: str) -> None:
    layer, x = make(kind)
    with torch.no_grad():
        layer.weight.copy_(torch.randn_like(layer.weight))
    assert abs(layer.exact_sigma() - 1) > 0.1
    for _ in range(100):
        layer(x)
    assert layer.exact_sigma() == pytest.approx(1, rel=1e-3)


def test_evaluation_mode_changes_nothing_while_the_weight_stays(kind: str) -> None:
    layer, x = make(kind)
    for _ in range(3):
        with torch.no_grad():
            layer.weight.add_(torch.randn_like(layer.weight) / 10)
        layer(x)
    layer.eval()
    before = copy.deepcopy(layer.state_dict())
    layer(x), layer.exact_sigma(), layer.certified_sigma(), layer.effective_weight
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_layer_that_trusts_sigma_reads_it_whatever_the_weight(kind: str) -> None:
    layer, x = make(kind)
    layer.eval().trusts_sigma = True
    with torch.no_grad():
        layer.weight.mul_(3)
    before = copy.deepcopy(layer.state_dict())
    layer(x)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert layer.exact_sigma() == pytest.approx(3, rel=1e-4)


def test_one_training_forward_is_one_power_iteration(kind: str) -> None:
    layer, x = make(kind)
    with torch.no_grad():
        layer.weight.add_(torch.randn_like(layer.weight))
    twin = copy.deepcopy(layer)
    layer(x)
    twin.power_iteration()
    torch.testing.assert_close(layer.running_u, twin.running_u)
    torch.testing.assert_close(layer.running_sigma, twin.running_sigma)


def test_n_power_iterations_are_made_in_each_forward(kind: str) -> None:
    one, x = make(kind)
    three, _ = make(kind, n_power_iterations=3)
    with torch.no_grad():
        one.weight.add_(1)
        three.weight.add_(1)
    one(x), one(x), one(x), three(x)
    torch.testing.assert_close(one.running_v, three.running_v)


def test_a_tracked_layer_is_the_plain_one_and_follows_its_norm(kind: str) -> None:
    layer, x = make(kind, mode="track", bound=0.1)
    assert torch.equal(layer(x), plain_output(layer, x, layer.weight))
    assert float(layer.scale) == float(layer.output_scale) == 1
    with torch.no_grad():
        layer.weight.copy_(torch.randn_like(layer.weight))
    for _ in range(100):
        layer(x)
    exact = layer.exact_sigma(effective=False)
    assert layer.exact_sigma() == exact
    assert float(layer.running_sigma) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("mode", ["normalize", "shrink"])
@pytest.mark.parametrize("bound", [0.3, 1.0, 50.0])
def test_gradient_is_that_of_dividing_by_the_exact_norm(kind: str, mode: Any, bound: float) -> None:
    layer, x = make(kind, mode=mode, bound=bound)
    layer, x = layer.double(), x.double()
    layer.power_iteration(2000)
    weight = layer.weight.detach().clone().requires_grad_()
    sigma = norm_of(layer, weight)
    scale = bound / sigma if mode == "normalize" else (bound / sigma).clamp_max(1)
    target = torch.randn_like(layer(x))
    (plain_output(layer, x, weight * scale) * target).sum().backward()
    layer.zero_grad()
    (layer(x) * target).sum().backward()
    assert layer.weight.grad is not None
    assert weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-5, atol=1e-7)
    if mode == "normalize":  # scale invariance: the gradient has no part along the weight
        along = torch.sum(layer.weight.detach() * layer.weight.grad) / layer.weight.grad.norm()
        assert abs(float(along)) < 1e-6


def norm_of(layer: SpectralLayer, weight: Tensor) -> Tensor:
    """σ as a differentiable function of the weight, by SVD of the dense operator."""
    if isinstance(layer, SpectralConv2d) and layer.conv_norm == "operator":
        size = layer.running_v[0].numel()
        basis = torch.eye(size, dtype=weight.dtype).view(size, *layer.running_v.shape[1:])
        columns = nn.functional.conv2d(basis, weight, None, layer.stride, layer.padding)
        return torch.linalg.matrix_norm(columns.flatten(1), 2)
    return torch.linalg.matrix_norm(weight.flatten(1), 2)


def test_second_derivatives_agree_with_plain_autograd() -> None:
    torch.manual_seed(0)
    layer = SpectralLinear(4, 3).double()
    layer.power_iteration(2000)
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)

    def penalty(y: Tensor, weight: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (gradient,) = torch.autograd.grad(slope.square().sum(), weight)
        return gradient

    ours = penalty(layer(x), layer.weight)
    weight = layer.weight.detach().clone().requires_grad_()
    sigma = layer.running_u[0] @ weight @ layer.running_v[0]
    plain = penalty(nn.functional.linear(x, weight / sigma, layer.bias), weight)
    torch.testing.assert_close(ours, plain)


def test_no_gradient_through_the_norm_is_a_constant_scale(kind: str) -> None:
    layer, x = make(kind, grad_through_norm=False)
    layer(x).square().sum().backward()
    weight = layer.weight.detach().clone().requires_grad_()
    plain_output(layer, x, weight * layer.scale).square().sum().backward()
    assert layer.weight.grad is not None
    assert weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-4, atol=1e-5)


def test_two_forwards_before_one_backward_work(kind: str) -> None:
    layer, x = make(kind)
    (layer(x).sum() + layer(2 * x).square().sum()).backward()
    assert layer.weight.grad is not None


def test_shrink_leaves_a_small_layer_alone_and_bounds_a_large_one(kind: str) -> None:
    layer, x = make(kind, mode="shrink", bound=100.0)
    torch.testing.assert_close(layer(x), plain_output(layer, x, layer.weight))
    with torch.no_grad():
        layer.weight.mul_(1e4)
    layer.reset_sigma()
    assert layer.exact_sigma() == pytest.approx(100, rel=1e-4)


def test_initial_bound_keeps_the_function_and_limits_growth(kind: str) -> None:
    layer, x = make(kind, mode="shrink", bound="initial")
    own = layer.exact_sigma(effective=False)
    torch.testing.assert_close(layer(x), plain_output(layer, x, layer.weight), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        layer.weight.mul_(7)
    layer(x)
    assert layer.exact_sigma() == pytest.approx(own, rel=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e-15, 1e-30])
def test_a_zero_or_tiny_weight_gives_finite_outputs_and_gradients_and_can_grow(
    kind: str, value: float
) -> None:
    layer, x = make(kind)
    with torch.no_grad():
        layer.weight.fill_(value)
    layer(x).square().sum().backward()
    assert layer.weight.grad is not None
    assert bool(torch.isfinite(layer.weight.grad).all())
    assert bool(torch.isfinite(layer(x)).all())
    with torch.no_grad():
        layer.weight.copy_(torch.randn_like(layer.weight))
    for _ in range(100):
        layer(x)
    assert layer.exact_sigma() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_poisoned_weight_leaves_no_trace_once_it_is_mended(kind: str, poison: float) -> None:
    layer, x = make(kind)
    good = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.view(-1)[0] = poison
    layer(x)
    for name in ("running_u", "running_v", "running_sigma"):
        assert bool(torch.isfinite(getattr(layer, name)).all()), name
    with torch.no_grad():
        layer.weight.copy_(good)
    for _ in range(100):
        layer(x)
    assert layer.exact_sigma() == pytest.approx(1, rel=1e-3)


def test_making_a_layer_draws_nothing_from_the_global_random_state(kind: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(12, 7) if kind == "linear" else nn.Conv2d(3, 6, 3)
    before = torch.get_rng_state()
    spectral_norm(layer, input_size=(9, 10), conv_norm="operator" if kind == "linear" else kind)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_plain_checkpoint_loads_and_sigma_is_found(kind: str) -> None:
    layer, _ = make(kind)
    weight = torch.randn_like(layer.weight)
    layer.load_state_dict({"weight": weight, "bias": layer.bias})  # type: ignore[dict-item]
    assert torch.equal(layer.weight, weight)
    assert layer.exact_sigma() == pytest.approx(1, rel=1e-4)


def test_removing_gives_a_plain_layer_that_computes_the_same(kind: str) -> None:
    layer, x = make(kind, bound=0.7)
    layer.eval()
    plain = remove_spectral_norm(layer)
    assert type(plain) in (nn.Linear, nn.Conv2d)
    assert set(plain.state_dict()) == {"weight", "bias"}
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-5, atol=1e-6)


def test_state_round_trips_and_copies_are_equal(kind: str) -> None:
    layer, x = make(kind)
    for _ in range(3):
        layer(x)
    other, _ = make(kind)
    with torch.no_grad():
        other.weight.normal_()
    other.load_state_dict(layer.state_dict())
    for twin in (other, copy.deepcopy(layer)):
        assert torch.equal(twin.eval()(x), layer.eval()(x))


def test_mixed_precision_keeps_sigma_in_float32(kind: str) -> None:
    layer, x = make(kind)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).square().sum().backward()
    assert layer.running_sigma.dtype == torch.float32
    assert layer.exact_sigma() == pytest.approx(1, rel=1e-4)


def test_normalize_layers_works_on_any_module_and_finds_input_sizes() -> None:
    discriminator = nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(8, 8, 3), nn.Flatten(),
        nn.Linear(8 * 14 * 14, 1),
    )  # fmt: skip
    normalize_layers(discriminator, ["0", "2", "4"], torch.zeros(1, 3, 32, 32))
    assert isinstance(discriminator[2], SpectralConv2d)
    assert discriminator[2].input_size == (16, 16)
    for i in (0, 2, 4):
        assert discriminator[i].exact_sigma() == pytest.approx(1, rel=1e-4)
    assert discriminator(torch.randn(2, 3, 32, 32)).shape == (2, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bound": 0.0}, "expected a positive number"),
        ({"bound": -1.0}, "expected a positive number"),
        ({"bound": float("nan")}, "expected a positive number"),
        ({"mode": "clip"}, 'expected "normalize", "shrink" or "track"'),
        ({"n_power_iterations": 0}, "expected 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spectral_norm(nn.Linear(3, 2), **settings)


def test_a_convolution_without_its_input_size_says_so() -> None:
    with pytest.raises(ConfigError, match=r"pass input_size=\(height, width\)"):
        spectral_norm(nn.Conv2d(3, 4, 3))


def test_an_input_of_another_size_is_refused() -> None:
    layer = spectral_norm(nn.Conv2d(3, 4, 3), input_size=(8, 8))
    with pytest.raises(ConfigError, match=r"found \(9, 9\)"):
        layer(torch.zeros(1, 3, 9, 9))


def test_other_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected a plain Linear or Conv2d, found ReLU"):
        spectral_norm(nn.ReLU())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler warns of itself
@pytest.mark.filterwarnings("ignore:Guards may run slower")  # and of Python 3.13.0
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_layers_under_torch_compile_equal_eager_ones(kind: str, backend: str) -> None:
    layer, x = make(kind)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, fullgraph=True, backend=backend)
    for _ in range(3):
        layer(x).square().sum().backward()
        compiled(x).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, twin.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.running_sigma, twin.running_sigma)


def test_layers_that_widen_follow_more_vectors_and_of_few_inputs_as_many() -> None:
    def n_vectors(n_in: int, n_out: int) -> int:
        return len(SpectralLinear(n_in, n_out).running_u)

    assert (n_vectors(128, 128), n_vectors(128, 64)) == (8, 8)
    assert (n_vectors(64, 128), n_vectors(4, 64), n_vectors(128, 306)) == (64, 4, 16)


def test_a_layer_that_follows_as_many_vectors_as_inputs_knows_sigma_after_any_move() -> None:
    layer = SpectralLinear(12, 20)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(20, 12))
    layer.power_iteration()
    exact = float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))
    assert float(layer.running_sigma) == pytest.approx(exact, rel=1e-5)
