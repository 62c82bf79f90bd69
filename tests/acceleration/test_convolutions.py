"""A convolution as a product is the convolution."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.acceleration.convolutions import convolution, convolution_backward, decompositions

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
