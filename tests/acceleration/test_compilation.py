"""Compiled functions compute what they compute uncompiled."""

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.acceleration import compiler_available
from sndqn.acceleration.compilation import _make_inputs_of_attributes, compile_function

needs_compiler = pytest.mark.skipif(not compiler_available(), reason="no C++ compiler")


@needs_compiler
def test_inputs_views_twins_and_changed_tensors_come_out_right() -> None:
    """Though torch's own wrappers, which see to these, are left out."""
    changed = torch.randn(4)

    def function(x: Tensor) -> list[Tensor]:
        twice = x * 2
        changed.add_(1)
        return [x, x.view(2, 2), twice, twice, twice.view(2, 2), changed, x + changed]

    before = changed.clone()
    compiled = compile_function(function, torch.randn(4), changed=[changed])
    assert torch.equal(changed, before), "tracing left it changed"
    for _ in range(2):
        x, old = torch.randn(4), changed.clone()
        found = compiled(x)
        twice, new = x * 2, old + 1
        expected = [x, x.view(2, 2), twice, twice, twice.view(2, 2), new, x + new]
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)
        assert torch.equal(changed, new)


@needs_compiler
def test_what_is_compiled_is_handed_each_tensor_once() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    graph = make_fx(lambda x: [x @ weight, weight.detach() + weight])(torch.ones(2, 3))
    reached = _make_inputs_of_attributes(graph)
    assert [t.data_ptr() for t in reached] == [weight.data_ptr()]
    assert not list(graph.parameters())
    assert not list(graph.buffers())


@needs_compiler
def test_what_a_function_computes_twice_is_computed_once() -> None:
    calls: list[None] = []

    @torch.library.custom_op("sndqn_tests::counted", mutates_args=())
    def counted(x: Tensor) -> Tensor:
        calls.append(None)
        return x.clone()

    @counted.register_fake
    def _(x: Tensor) -> Tensor:
        return torch.empty_like(x)

    x = torch.arange(3.0)
    compiled = compile_function(lambda x: [counted(x) + 1, counted(x) * 2], x)
    calls.clear()
    first, second = compiled(x)
    assert torch.equal(first, x + 1)
    assert torch.equal(second, x * 2)
    assert len(calls) == 1


@needs_compiler
def test_in_place_changes_pass_both_ways_and_tracing_leaves_none() -> None:
    total, factor = torch.zeros(3), torch.tensor(2.0)

    def add(x: Tensor) -> list[Tensor]:
        total.add_(factor * x)
        return [total.sum()]

    compiled = compile_function(add, torch.ones(3), changed=[total])
    assert torch.equal(total, torch.zeros(3))
    (seen,) = compiled(torch.ones(3))
    assert float(seen) == 6
    assert torch.equal(total, torch.full((3,), 2.0))
    factor.fill_(5)
    compiled(torch.ones(3))
    assert torch.equal(total, torch.full((3,), 7.0))


def test_tracing_that_fails_leaves_no_change_either() -> None:
    total = torch.zeros(3)

    def add_and_fail(x: Tensor) -> list[Tensor]:
        total.add_(x)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        compile_function(add_and_fail, torch.ones(3), changed=[total])
    assert torch.equal(total, torch.zeros(3))
