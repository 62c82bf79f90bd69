"""Traces a function of tensors once, and compiles the trace with TorchInductor.

The function runs once under a tracer, which records every tensor operation, the backward pass
included; TorchInductor turns the record into C++. Tensors that the function reaches by itself, such
as weights and singular vectors, become inputs: eager and compiled code see each other's changes.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.acceleration.convolutions import decompositions

Compiled = Callable[..., list[Tensor]]

# What TorchInductor is told. The caller checks layouts once, instead of before every operation. The
# loops and matrix products are called from C++: calls from Python are slow beside small networks'
# loops. A value that several loops read is written to memory first where computing it takes more
# than so many inputs, 4 by default; a large gradient is cheaper to compute twice. The fewest
# iterations of a loop for each thread are 512 by default: to share a loop of a few microseconds
# costs more than it saves.
_OPTIONS = {
    "size_asserts": False,
    "cpp_wrapper": True,
    "realize_reads_threshold": 12,
    "cpp.min_chunk_size": 2**14,
}


def compile_function(
    function: Callable[..., list[Tensor]],
    *example: Tensor,
    changed: Sequence[Tensor] = (),
    one_thread: bool = False,
) -> Compiled:
    """Compiles a function for inputs of the example's shapes, dtypes and strides.

    Takes 5 seconds to a minute, less where an earlier run has left its result in torch's cache.

    Args:
        function: Gives a list of tensors; must not branch in Python on a tensor's value.
        *example: Inputs to trace with.
        changed: Tensors that the function changes in place; tracing leaves them as they were.
        one_thread: Whether the generated loops run on one thread; matrix products do not.

    Raises:
        Exception: Whatever torch raises where it cannot trace or compile.
    """
    kept = [tensor.clone() for tensor in changed]
    with _quiet():
        restored = list(zip(changed, kept, strict=True))
        return _compile(function, example, restored, one_thread)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences warnings meant for torch's developers: old parts, operations called by Python."""
    logger = logging.getLogger("torch._inductor.ir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


def _compile(
    function: Callable[..., list[Tensor]],
    example: Sequence[Tensor],
    changed: Sequence[tuple[Tensor, Tensor]],
    one_thread: bool,
) -> Compiled:
    try:
        graph = make_fx(function, decompositions())(*example)
    finally:  # tracing also executes what it records
        with torch.no_grad():
            for tensor, value in changed:
                tensor.copy_(value)
    with torch.no_grad():
        reached = _make_inputs_of_attributes(graph)
        options: dict[str, Any] = dict(_OPTIONS)
        if one_thread:
            options["cpp.threads"] = 1
        elif torch.get_num_threads() not in (1, os.cpu_count()):
            # The number torch has at each call. One for each core is the default, and faster so.
            options["cpp.dynamic_threads"] = True
        call = _compile_graph(graph, [*example, *reached], options)
    return lambda *inputs: call([*inputs, *reached])


def _compile_graph(
    graph: fx.GraphModule, inputs: list[Tensor], options: dict[str, Any]
) -> Callable[[list[Tensor]], list[Tensor]]:
    """Compiles a graph to a function of a list of inputs, none of which needs a gradient.

    Torch wraps compiled code in functions that handle aliases, views and gradients of the inputs.
    There are none here, and small networks would take a tenth longer.
    """
    from torch._functorch.compile_utils import fx_graph_cse
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner  # takes a second

    found: list[tuple[fx.GraphModule, Any]] = []

    def keep(functional: fx.GraphModule, *args: Any, **kwargs: Any) -> Any:
        # The backward pass computes some of the forward pass's values again: share them.
        functional.graph = fx_graph_cse(functional.graph)
        functional.recompile()
        compiled: Any = compile_fx_inner(functional, *args, **kwargs)
        found.append((functional, compiled))
        return compiled

    n_outputs = len(_outputs(graph))
    whole: Any = compile_fx(graph, inputs, inner_compile=keep, config_patches=options)
    if len(found) == 1:
        functional, direct = found[0]
        taken = [n.meta["val"] for n in functional.graph.nodes if n.op == "placeholder"]
        same = list(map(layout, taken)) == list(map(layout, inputs))
        if same and len(_outputs(functional)) == n_outputs:
            # The code without torch's profiling around it.
            call = getattr(direct, "current_callable", None) or direct
            return lambda given: list(call(given))

    def wrapped(given: list[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return list(whole(*given))

    return wrapped


def _outputs(graph: fx.GraphModule) -> Sequence[Any]:
    (node,) = [n for n in graph.graph.nodes if n.op == "output"]
    outputs: Any = node.args[0]
    return outputs if isinstance(outputs, list | tuple) else [outputs]


def _make_inputs_of_attributes(graph: fx.GraphModule) -> list[Tensor]:
    """Turns the tensors that a traced function reached by itself into inputs, each one once."""
    nodes = list(graph.graph.nodes)
    last = next((n for n in reversed(nodes) if n.op == "placeholder"), None)
    inputs: dict[tuple[Any, ...], fx.Node] = {}
    reached: list[Tensor] = []
    for node in nodes:
        if node.op != "get_attr":
            continue
        tensor: Tensor = getattr(graph, node.target).detach()
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in inputs:
            where = graph.graph.inserting_before(nodes[0])
            if last is not None:
                where = graph.graph.inserting_after(last)
            with where:
                last = inputs[key] = graph.graph.placeholder(f"reached_{len(reached)}")
            reached.append(tensor)
        node.replace_all_uses_with(inputs[key])
        graph.graph.erase_node(node)
    for name in {str(node.target) for node in nodes if node.op == "get_attr"}:
        delattr(graph, name)  # or torch would pass it in as well
    for node in graph.graph.nodes:
        node.meta.clear()  # the tracer's tensors, which the compiler would take for its own
    graph.recompile()
    return reached


def layout(tensor: Tensor) -> tuple[Any, ...]:
    """Returns what compiled code relies on: shape, strides and dtype."""
    return tensor.shape, tensor.stride(), tensor.dtype
