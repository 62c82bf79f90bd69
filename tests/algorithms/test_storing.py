"""A compiled function stores what it changes once, and reads no value too late."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.algorithms.compilation import compile_function, compiler_available
from sndqn.algorithms.storing import StoreOnce


def step_then_product(weight: Tensor, gradient: Tensor) -> list[Tensor]:
    weight.sub_(gradient)
    return [weight @ weight]


def product_of_old_and_new(weight: Tensor, gradient: Tensor) -> list[Tensor]:
    old = weight.clone()
    weight.sub_(gradient)
    return [old @ weight]


def product_of_an_old_view_and_new(weight: Tensor, gradient: Tensor) -> list[Tensor]:
    old = weight.clone()
    weight.sub_(gradient)
    return [old.t()[:2] @ weight]


def sum_of_old_and_new_twice(weight: Tensor, gradient: Tensor) -> list[Tensor]:
    first = weight.exp()
    weight.sub_(gradient)
    second = weight @ weight
    weight.mul_(2)
    return [first + second, weight @ weight]


def step_then_scale(weight: Tensor, gradient: Tensor) -> list[Tensor]:
    weight.sub_(gradient)
    return [weight * 2]


FUNCTIONS = (
    step_then_product,
    step_then_scale,
    product_of_old_and_new,
    product_of_an_old_view_and_new,
    sum_of_old_and_new_twice,
)


def tensors() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, 3), torch.randn(3, 3)]


def test_the_new_value_is_read_where_it_is_stored() -> None:
    functional = torch.func.functionalize(step_then_product, remove="mutations_and_views")
    graph = make_fx(functional)(*tensors())
    StoreOnce()(graph.graph)
    graph.graph.lint()
    (store,) = [n for n in graph.graph.nodes if n.target is torch.ops.aten.copy_.default]
    assert list(store.args[1].users) == [store]
    assert [user.target for user in store.users] == [torch.ops.aten.mm.default]


def test_a_value_that_only_loops_read_is_stored_at_the_end() -> None:
    functional = torch.func.functionalize(step_then_scale, remove="mutations_and_views")
    graph = make_fx(functional)(*tensors())
    before = [node.name for node in graph.graph.nodes]
    StoreOnce()(graph.graph)
    assert [node.name for node in graph.graph.nodes] == before


@pytest.mark.skipif(not compiler_available(), reason="no C++ compiler")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_old_and_new_values_come_out_as_uncompiled(function: Callable[..., list[Tensor]]) -> None:
    compiled = compile_function(function, *tensors(), changed=tensors())
    ours, theirs = tensors(), tensors()
    torch.testing.assert_close(compiled(*ours), function(*theirs), rtol=1e-6, atol=1e-6)
    assert torch.equal(ours[0], theirs[0])
