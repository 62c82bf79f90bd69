"""A convolution as a product is the convolution; a product by oneDNN or as a loop, the product."""

from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.acceleration import onednn
from sndqn.acceleration.decompositions import (
    affine,
    convolution,
    convolution_backward,
    decompositions,
    nan_to_num,
    product,
    scatter_add,
    vector_norm,
)

aten: Any = torch.ops.aten
PLAIN = ((0, 0), (1, 1), False, (0, 0), 1)

shapes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 4),
        "n_in": st.integers(1, 3),
        "n_out": st.integers(1, 4),
        "size": st.tuples(st.integers(4, 9), st.integers(4, 9)),
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "seed": st.integers(0, 99),
    }
)


formats = st.sampled_from([torch.contiguous_format, torch.channels_last])


@settings(deadline=None)
@given(shapes, st.booleans(), formats)
def test_it_gives_torchs_outputs_and_gradients(
    case: dict[str, Any], with_bias: bool, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(case["seed"])
    x = torch.randn(case["batch"], case["n_in"], *case["size"], dtype=torch.float64)
    weight = torch.randn(case["n_out"], case["n_in"], *case["kernel"], dtype=torch.float64)
    x, weight = (t.contiguous(memory_format=memory_format) for t in (x, weight))
    bias = torch.randn(case["n_out"], dtype=torch.float64) if with_bias else None
    geometry = (list(case["stride"]), *(list(g) if isinstance(g, tuple) else g for g in PLAIN))
    expected = aten.convolution(x, weight, bias, *geometry)
    torch.testing.assert_close(convolution(x, weight, bias, *geometry), expected)

    grad, wanted = torch.randn_like(expected), [False, True, with_bias]
    sizes = [case["n_out"]] if with_bias else None
    expected_gradients = aten.convolution_backward(grad, x, weight, sizes, *geometry, wanted)
    found = convolution_backward(grad, x, weight, sizes, *geometry, wanted)
    assert found[0] is None
    torch.testing.assert_close(found[1], expected_gradients[1])
    if with_bias:
        torch.testing.assert_close(found[2], expected_gradients[2])


@settings(deadline=None)
@given(shapes, st.tuples(st.integers(0, 2), st.integers(0, 2)), formats)
def test_transposed_it_gives_torchs_outputs(
    case: dict[str, Any], unreached: tuple[int, int], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(case["seed"])
    x = torch.randn(case["batch"], case["n_in"], *case["size"], dtype=torch.float64)
    weight = torch.randn(case["n_in"], case["n_out"], *case["kernel"], dtype=torch.float64)
    x, weight = (t.contiguous(memory_format=memory_format) for t in (x, weight))
    rest = [min(unreached[i], case["stride"][i] - 1) for i in range(2)]
    geometry = (list(case["stride"]), [0, 0], [1, 1], True, rest, 1)
    expected = aten.convolution(x, weight, None, *geometry)
    torch.testing.assert_close(convolution(x, weight, None, *geometry), expected)


@pytest.mark.parametrize(
    "geometry",
    [
        ([1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        ([1, 1], [0, 0], [2, 2], False, [0, 0], 1),
        ([1, 1], [1, 1], [1, 1], True, [0, 0], 1),
        ([1, 1], [0, 0], [1, 1], False, [0, 0], 2),
    ],
)
def test_what_is_padded_dilated_or_grouped_is_left_to_torch(geometry: Any) -> None:
    x, weight = torch.randn(2, 4, 8, 8), torch.randn(4, 4, 3, 3)
    assert convolution(x, weight, None, *geometry) is NotImplemented


def test_what_needs_the_inputs_gradient_is_left_to_torch() -> None:
    geometry = ([1, 1], *(list(g) if isinstance(g, tuple) else g for g in PLAIN))
    x, weight = torch.randn(2, 4, 8, 8), torch.randn(4, 4, 3, 3)
    grad = torch.randn(2, 4, 6, 6)
    found = convolution_backward(grad, x, weight, None, *geometry, [True, True, False])
    assert found is NotImplemented


def test_a_traced_function_has_them_in_place_of_the_convolution() -> None:
    x, weight = torch.randn(2, 4, 8, 8), torch.randn(4, 4, 3, 3)
    graph = make_fx(torch.conv2d, decompositions())(x, weight)
    assert not [n for n in graph.graph.nodes if n.target is aten.convolution.default]
    torch.testing.assert_close(graph(x, weight), torch.conv2d(x, weight))


def matrices(
    sizes: tuple[int, int, int], a_transposed: bool, b_transposed: bool, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    m, k, n = sizes
    torch.manual_seed(seed)
    a = torch.randn(k, m).t() if a_transposed else torch.randn(m, k)
    b = torch.randn(n, k).t() if b_transposed else torch.randn(k, n)
    return a.double(), b.double()


@pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
    reason="no oneDNN",
)
@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([(32, 512, 256), (512, 32, 256), (256, 32, 512), (8, 512, 512), (98, 576, 64)]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_a_large_product_is_onednns_and_the_product(
    sizes: tuple[int, int, int], a_transposed: bool, b_transposed: bool, seed: int
) -> None:
    a, b = matrices(sizes, a_transposed, b_transposed, seed)
    with mock.patch.object(onednn, "_IS_FASTER", True):
        found = product(a.float(), b.float())
        assert torch.ops.sndqn.linear.default in operations(a.float(), b.float())
    torch.testing.assert_close(found.double(), a @ b, rtol=1e-4, atol=1e-4)
    assert found.is_contiguous()
    assert product(a, b) is NotImplemented  # in float64


def operations(a: torch.Tensor, b: torch.Tensor) -> set[Any]:
    return {n.target for n in make_fx(torch.mm, decompositions())(a, b).graph.nodes}


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_a_small_product_is_a_loop_and_the_product(
    sizes: tuple[int, int, int], a_transposed: bool, b_transposed: bool, seed: int
) -> None:
    a, b = matrices(sizes, a_transposed, b_transposed, seed)
    bias = torch.randn(sizes[2], dtype=torch.float64)
    assert not operations(a, b) & {aten.mm.default, aten.bmm.default}
    torch.testing.assert_close(product(a, b), a @ b)
    torch.testing.assert_close(affine(bias, a, b), torch.addmm(bias, a, b))


def test_a_scaled_affine_map_is_left_to_torch() -> None:
    a, b, bias = torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(2)
    assert affine(bias, a, b, beta=0.5) is NotImplemented


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(-3, 2), st.integers(0, 99))
def test_one_value_a_row_is_added_where_its_index_says(
    shape: list[int], dim: int, seed: int
) -> None:
    dim %= len(shape)
    torch.manual_seed(seed)
    x, one_a_row = torch.randn(shape), [1 if i == dim else n for i, n in enumerate(shape)]
    index, values = torch.randint(shape[dim], one_a_row), torch.randn(one_a_row)
    expected = torch.scatter_add(x, dim, index, values)
    torch.testing.assert_close(scatter_add(x, dim, index, values), expected)
    torch.testing.assert_close(scatter_add(x, dim - len(shape), index, values), expected)


def test_several_values_a_row_or_none_for_some_are_left_to_torch() -> None:
    x = torch.zeros(4, 3)
    for shape in ((4, 2), (3, 1)):
        index = torch.zeros(shape, dtype=torch.int64)
        assert scatter_add(x, 1, index, torch.ones(shape)) is NotImplemented


@pytest.mark.parametrize("transposed", [False, True])
def test_a_large_matrixs_norm_is_summed_up_by_rows_of_its_memory(transposed: bool) -> None:
    x = torch.randn(256, 512)
    x = x.t() if transposed else x
    torch.testing.assert_close(vector_norm(x), torch.linalg.vector_norm(x))
    graph = make_fx(torch.linalg.vector_norm, decompositions())(x)
    sums = [n for n in graph.graph.nodes if "sum" in str(n.target)]
    assert [n.meta["val"].shape for n in sums] == [(256,), ()]


def test_other_norms_are_left_to_torch() -> None:
    large = torch.randn(256, 512)
    assert vector_norm(large, 1) is NotImplemented
    assert vector_norm(large, 2, [0]) is NotImplemented


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=9))
def test_what_is_not_finite_becomes_zero(numbers: list[float]) -> None:
    x = torch.tensor(numbers)
    assert torch.equal(nan_to_num(x, 0.0, 0.0, 0.0), torch.nan_to_num(x, 0.0, 0.0, 0.0))


@pytest.mark.parametrize("values", [(None, None, None), (0.0, None, 0.0), (1.0, 0.0, 0.0)])
def test_other_values_than_zero_are_left_to_torch(values: tuple[float | None, ...]) -> None:
    assert nan_to_num(torch.zeros(2), *values) is NotImplemented
