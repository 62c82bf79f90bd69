"""A convolution as a product is the convolution; a product by blocks is the product."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.algorithms.decompositions import (
    DECOMPOSITIONS,
    convolution,
    convolution_backward,
    product,
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


def test_what_is_large_or_needs_the_inputs_gradient_is_left_to_torch() -> None:
    geometry = ([1, 1], *(list(g) if isinstance(g, tuple) else g for g in PLAIN))
    x, weight = torch.randn(2, 4, 8, 8), torch.randn(4, 4, 3, 3)
    assert convolution(torch.randn(32, 4, 84, 84), weight, None, *geometry) is NotImplemented
    grad = torch.randn(2, 4, 6, 6)
    found = convolution_backward(grad, x, weight, None, *geometry, [True, True, False])
    assert found is NotImplemented


def test_a_traced_function_has_them_in_place_of_the_convolution() -> None:
    x, weight = torch.randn(2, 4, 8, 8), torch.randn(4, 4, 3, 3)
    graph = make_fx(torch.conv2d, DECOMPOSITIONS)(x, weight)
    assert not [n for n in graph.graph.nodes if n.target is aten.convolution.default]
    torch.testing.assert_close(graph(x, weight), torch.conv2d(x, weight))


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([(32, 512, 256), (512, 32, 256), (512, 256, 32), (8, 512, 512), (98, 64, 256)]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_a_product_by_blocks_is_the_product(
    sizes: tuple[int, int, int], a_transposed: bool, b_transposed: bool, seed: int
) -> None:
    m, k, n = sizes
    torch.manual_seed(seed)
    a = torch.randn(k, m).t() if a_transposed else torch.randn(m, k)
    b = torch.randn(n, k).t() if b_transposed else torch.randn(k, n)
    found = product(a, b)
    assert found is not NotImplemented
    torch.testing.assert_close(found, a @ b)


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        ((32, 64, 64), "small"),
        ((256, 256, 256), "large every way"),
        ((33, 2048, 33), "nothing to divide"),
    ],
)
def test_a_product_that_gains_nothing_by_blocks_is_left_to_torch(
    sizes: tuple[int, int, int], why: str
) -> None:
    m, k, n = sizes
    assert product(torch.zeros(m, k), torch.zeros(k, n)) is NotImplemented, why


def test_on_many_threads_products_are_left_to_torch() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        assert product(torch.zeros(32, 512), torch.zeros(512, 256)) is NotImplemented
    finally:
        torch.set_num_threads(threads)
