"""Norms against the singular values of the dense matrix, in float64."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sndqn.spectral import SpectralConv2d, SpectralLinear, certified_norm, exact_norm
from sndqn.spectral.norms import (
    LinearMap,
    convolution_map,
    dense_matrix,
    matrix_map,
    top_singular_vectors,
)

SEEDS = st.integers(0, 2**31 - 1)
few = settings(max_examples=40, deadline=None)


def random_matrix(seed: int, n_out: int, n_in: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_out, n_in, generator=generator, dtype=torch.float64)


matrices = st.builds(random_matrix, SEEDS, st.integers(1, 24), st.integers(1, 24))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Tensor, dict[str, Any]]:
    """Draws a kernel and the arguments of `convolution_map`."""

    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, stride, padding, dilation = pair(1, 4), pair(1, 3), pair(0, 2), pair(1, 2)
    reach = [dilation[i] * (kernel[i] - 1) + 1 for i in range(2)]
    smallest = [max(1, reach[i] - 2 * padding[i]) for i in range(2)]
    size = (draw(st.integers(smallest[0], 9)), draw(st.integers(smallest[1], 9)))
    groups = draw(st.sampled_from([1, 1, 2]))
    out_channels, in_channels = groups * draw(st.integers(1, 3)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(SEEDS))
    weight = torch.randn(
        out_channels, in_channels, *kernel, generator=generator, dtype=torch.float64
    )
    return weight, {
        "input_size": size,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }


def true_convolution_norm(weight: Tensor, geometry: dict[str, Any]) -> float:
    """The largest singular value of the matrix whose columns are the responses to unit inputs."""
    height, width = geometry["input_size"]
    channels = weight.shape[1] * geometry["groups"]
    basis = torch.eye(channels * height * width, dtype=torch.float64)
    others = {key: value for key, value in geometry.items() if key != "input_size"}
    responses = nn.functional.conv2d(basis.view(-1, channels, height, width), weight, **others)
    return float(torch.linalg.matrix_norm(responses.flatten(1), 2))


def true_norm(weight: Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight.flatten(1), 2))


@few
@given(matrices)
def test_matrix_estimate_is_the_largest_singular_value(weight: Tensor) -> None:
    single = weight.float()
    u, v, sigma = top_singular_vectors(matrix_map(single), single)
    assert float(sigma) == pytest.approx(true_norm(weight), rel=1e-4)
    assert float(u.norm()) == pytest.approx(1, abs=1e-5)
    assert float(v.norm()) == pytest.approx(1, abs=1e-5)
    assert float(u @ single @ v) == pytest.approx(true_norm(weight), rel=1e-4)


@few
@given(convolutions())
def test_convolution_estimate_is_the_largest_singular_value(
    drawn: tuple[Tensor, dict[str, Any]],
) -> None:
    weight, geometry = drawn
    truth = true_convolution_norm(weight, geometry)
    operator = convolution_map(weight.float(), **geometry)
    u, v, sigma = top_singular_vectors(operator, weight.float())
    assert float(sigma) == pytest.approx(truth, rel=1e-4)
    assert float(torch.sum(u * operator.apply(v))) == pytest.approx(truth, rel=1e-4)


@few
@given(matrices)
def test_exact_norm_of_a_matrix_is_exact(weight: Tensor) -> None:
    assert exact_norm(weight) == pytest.approx(true_norm(weight), rel=1e-8)


@few
@given(convolutions())
def test_exact_norm_of_a_convolution_is_exact(drawn: tuple[Tensor, dict[str, Any]]) -> None:
    weight, geometry = drawn
    assert exact_norm(weight, **geometry) == pytest.approx(
        true_convolution_norm(weight, geometry), rel=1e-8
    )


@few
@given(matrices)
def test_certified_norm_of_a_matrix_is_never_below_and_almost_the_truth(weight: Tensor) -> None:
    truth = true_norm(weight)
    assert truth <= certified_norm(weight) <= truth * 1.001


@few
@given(convolutions())
def test_certified_norm_of_a_convolution_is_never_below_the_truth(
    drawn: tuple[Tensor, dict[str, Any]],
) -> None:
    weight, geometry = drawn
    truth = true_convolution_norm(weight, geometry)
    # A zero-padded map on a grid barely larger than its kernel keeps a part of the circular one,
    # which itself stretches no more than every patch, each input seen by all taps, can.
    taps = weight.shape[2] * weight.shape[3]
    ceiling = true_norm(weight) * math.sqrt(taps) * 1.001
    assert truth <= certified_norm(weight, **geometry) <= ceiling


def test_certified_norm_of_a_convolution_is_close_where_the_input_is_large() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 4, 3, 3)
    geometry: dict[str, Any] = {"input_size": (24, 24), "padding": (1, 1)}
    truth = exact_norm(weight, **geometry)
    assert truth <= certified_norm(weight, **geometry) <= 1.05 * truth


@pytest.mark.parametrize("iterations", [1, 3, 6, 12])
def test_more_squarings_tighten_the_certificate_as_promised(iterations: int) -> None:
    weight = random_matrix(0, 16, 16)
    truth = true_norm(weight)
    ceiling = truth * 16 ** (1 / 2 ** (iterations + 1)) * (1 + 1e-6)
    assert truth <= certified_norm(weight, iterations) <= ceiling


def assert_adjoint(linear_map: LinearMap, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(linear_map.in_shape, generator=generator, dtype=torch.float64)
    u = torch.randn(linear_map.out_shape, generator=generator, dtype=torch.float64)
    assert linear_map.apply(v).shape == linear_map.out_shape
    assert linear_map.adjoint(u).shape == linear_map.in_shape
    left, right = torch.sum(u * linear_map.apply(v)), torch.sum(linear_map.adjoint(u) * v)
    assert float(left) == pytest.approx(float(right), rel=1e-9, abs=1e-9)


@few
@given(matrices, SEEDS)
def test_matrix_adjoint_is_the_adjoint(weight: Tensor, seed: int) -> None:
    assert_adjoint(matrix_map(weight), seed)


@few
@given(convolutions(), SEEDS)
def test_convolution_adjoint_is_the_adjoint(
    drawn: tuple[Tensor, dict[str, Any]], seed: int
) -> None:
    weight, geometry = drawn
    assert_adjoint(convolution_map(weight, **geometry), seed)


def test_dense_matrix_acts_as_the_map() -> None:
    weight = random_matrix(0, 4, 2 * 3 * 3).view(4, 2, 3, 3)
    operator = convolution_map(weight, (5, 6), padding=(1, 0))
    x = random_matrix(1, 2, 30).view(1, 2, 5, 6)
    dense = dense_matrix(operator, weight)
    torch.testing.assert_close(dense @ x.flatten(), operator.apply(x).flatten())


@few
@given(convolutions())
def test_kernel_norm_brackets_the_operator_norm_without_padding(
    drawn: tuple[Tensor, dict[str, Any]],
) -> None:
    # Each output is the kernel matrix on one patch, so the operator stretches at least as much.
    # An input lies in at most ceil(k / s) patches a side, so it stretches at most its root more.
    weight, geometry = drawn
    assume(geometry["groups"] == 1)
    kernel, stride = weight.shape[2:], geometry["stride"]
    assume(all(geometry["input_size"][i] >= kernel[i] for i in range(2)))
    operator = exact_norm(weight, input_size=geometry["input_size"], stride=stride)
    patches = math.ceil(kernel[0] / stride[0]) * math.ceil(kernel[1] / stride[1])
    lower = exact_norm(weight)
    assert lower * (1 - 1e-9) <= operator <= lower * math.sqrt(patches) * (1 + 1e-9)


@settings(max_examples=20, deadline=None)
@given(matrices)
def test_converged_linear_layer_has_the_exact_norm(weight: Tensor) -> None:
    layer = SpectralLinear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
    truth = true_norm(layer.weight.detach().double())
    layer.power_iteration(1500)
    # Nearly equal singular values part slowly: the error shrinks like log(n) / steps.
    assert float(layer.running_sigma) == pytest.approx(truth, rel=1e-2)
    layer.reset_sigma()
    assert float(layer.running_sigma) == pytest.approx(truth, rel=1e-4)
    assert layer.exact_sigma() == pytest.approx(1, rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(convolutions())
def test_converged_convolution_layer_has_the_exact_norm(
    drawn: tuple[Tensor, dict[str, Any]],
) -> None:
    weight, geometry = drawn
    layer = SpectralConv2d(
        weight.shape[1] * geometry["groups"],
        weight.shape[0],
        tuple(weight.shape[2:]),
        **geometry,
    )
    with torch.no_grad():
        layer.weight.copy_(weight)
    # From an arbitrary start: vectors of another weight may be orthogonal to this one's.
    generator = torch.Generator().manual_seed(0)
    layer.running_v.copy_(torch.randn(layer.running_v.shape, generator=generator))
    layer.power_iteration(500)
    truth = true_convolution_norm(layer.weight.detach().double(), geometry)
    assert float(layer.running_sigma) == pytest.approx(truth, rel=1e-2)
    layer.reset_sigma()
    assert float(layer.running_sigma) == pytest.approx(truth, rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "geometry"),
    [
        ((32, 4, 8, 8), {"input_size": (44, 44), "stride": (4, 4)}),
        ((64, 32, 4, 4), {"input_size": (20, 20), "stride": (2, 2)}),
        ((64, 64, 3, 3), {"input_size": (9, 9)}),
    ],
    ids=["conv1", "conv2", "conv3"],
)
def test_estimate_holds_on_the_nature_convolutions(
    shape: tuple[int, ...], geometry: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    weight = nn.Conv2d(shape[1], shape[0], shape[2]).weight.detach()
    sigma = top_singular_vectors(convolution_map(weight, **geometry), weight)[2]
    truth = exact_norm(weight, **geometry)
    assert float(sigma) == pytest.approx(truth, rel=1e-4)
    assert truth <= certified_norm(weight, **geometry) <= 1.5 * truth


@pytest.mark.parametrize("geometry", [{}, {"input_size": (5, 5)}], ids=["kernel", "operator"])
class TestOddWeights:
    def test_zero_has_norm_zero(self, geometry: dict[str, Any]) -> None:
        assert exact_norm(torch.zeros(3, 2, 3, 3), **geometry) == 0
        assert certified_norm(torch.zeros(3, 2, 3, 3), **geometry) == 0

    @pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
    def test_poison_gives_nan(self, geometry: dict[str, Any], poison: float) -> None:
        weight = torch.ones(3, 2, 3, 3)
        weight[1, 1, 1, 1] = poison
        assert math.isnan(exact_norm(weight, **geometry))
        assert math.isnan(certified_norm(weight, **geometry))

    @pytest.mark.parametrize("factor", [1e-30, 1e-14, 1e-6, 1e6, 1e30])
    def test_norms_scale_with_the_weight(self, geometry: dict[str, Any], factor: float) -> None:
        weight = random_matrix(0, 3, 18).view(3, 2, 3, 3)
        expected = factor * exact_norm(weight, **geometry)
        assert exact_norm(weight * factor, **geometry) == pytest.approx(expected, rel=1e-8, abs=0)
        assert certified_norm(weight * factor, **geometry) == pytest.approx(
            factor * certified_norm(weight, **geometry), rel=1e-8, abs=0
        )

    def test_rank_one_is_found(self, geometry: dict[str, Any]) -> None:
        weight = (random_matrix(0, 3, 1) @ random_matrix(1, 1, 18)).view(3, 2, 3, 3)
        truth = (
            true_convolution_norm(weight, {"groups": 1, **geometry})
            if geometry
            else true_norm(weight)
        )
        assert exact_norm(weight, **geometry) == pytest.approx(truth, rel=1e-8)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0.0), (1e-15, 0.0), (math.nan, math.nan)])
def test_estimate_of_nothing_is_documented(value: float, expected: float) -> None:
    weight = torch.full((3, 4), value)
    u, v, sigma = top_singular_vectors(matrix_map(weight), weight)
    assert float(sigma) == pytest.approx(expected, nan_ok=True)
    assert float(u.norm()) == pytest.approx(1, rel=1e-5)
    assert float(v.norm()) == pytest.approx(1, rel=1e-5)
    assert (u.shape, v.shape) == ((3,), (4,))


def test_norms_draw_nothing_from_the_global_random_state() -> None:
    torch.manual_seed(0)
    weight, before = torch.ones(3, 2, 3, 3), torch.get_rng_state()
    for geometry in ({}, {"input_size": (6, 6)}):
        exact_norm(weight, **geometry)
        certified_norm(weight, **geometry)
    top_singular_vectors(matrix_map(weight), weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_estimates_repeat_to_the_bit() -> None:
    weight = random_matrix(3, 9, 7).float()
    first, second = (top_singular_vectors(matrix_map(weight), weight) for _ in range(2))
    assert all(itertools.starmap(torch.equal, zip(first, second, strict=True)))


@pytest.mark.parametrize("gap", [0.0, 1e-6, 1e-3])
def test_a_crowded_top_of_the_spectrum_is_still_found(gap: float) -> None:
    left = torch.linalg.qr(random_matrix(0, 60, 60)).Q
    right = torch.linalg.qr(random_matrix(1, 60, 60)).Q
    values = 1 - gap * torch.arange(60, dtype=torch.float64)
    weight = left @ torch.diag(values) @ right
    assert exact_norm(weight) == pytest.approx(1, rel=1e-8)
    single = weight.float()
    assert float(top_singular_vectors(matrix_map(single), single)[2]) == pytest.approx(1, rel=1e-4)


def test_one_large_value_above_a_flat_rest_is_not_missed() -> None:
    left = torch.linalg.qr(random_matrix(0, 200, 200)).Q
    right = torch.linalg.qr(random_matrix(1, 200, 200)).Q
    values = torch.ones(200, dtype=torch.float64)
    values[0] = 1.02
    weight = (left @ torch.diag(values) @ right).float()
    assert float(top_singular_vectors(matrix_map(weight), weight)[2]) == pytest.approx(
        1.02, rel=1e-4
    )


@pytest.mark.parametrize("size", [(4, 1), (3, 3), (5, 2)])
def test_a_map_that_stretches_all_alike_is_not_mistaken_for_a_larger_one(
    size: tuple[int, int],
) -> None:
    # Lanczos ends after one step here; what is left are rounding errors, to be told from a vector.
    for seed in range(20):
        weight = random_matrix(seed, 2, 1).view(2, 1, 1, 1)
        single = weight.float()
        for padding in (0, 1):
            operator = convolution_map(single, size, padding=(0, padding))
            sigma = top_singular_vectors(operator, single)[2]
            assert float(sigma) == pytest.approx(true_norm(weight), rel=1e-4)


def test_a_map_of_low_rank_is_not_mistaken_for_a_larger_one() -> None:
    for seed in range(20):
        weight = random_matrix(seed, 30, 2) @ random_matrix(seed + 100, 2, 40)
        single = weight.float()
        sigma = top_singular_vectors(matrix_map(single), single)[2]
        assert float(sigma) == pytest.approx(true_norm(weight), rel=1e-4)
