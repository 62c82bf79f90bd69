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

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.acceleration import onednn
from sndqn.acceleration.assumptions import Assumptions
from sndqn.acceleration.batches import FixedSamples, are_small, widened
from sndqn.acceleration.decompositions import decompositions
from sndqn.acceleration.interface import Result, Update, moments
from sndqn.policies import SNDQNPolicy
from sndqn.replay import Batch, split

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

    onednn.register()
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
        same = list(map(_layout, taken)) == list(map(_layout, inputs))
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


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype


def _layouts(batch: Batch) -> list[Any]:
    return [None if t is None else _layout(t) for t in batch]


class CompiledUpdate:
    """Updates of an algorithm and its greedy actions, compiled.

    An update is one function where policy and optimiser are sndqn's own: gradients, the optimiser's
    step and the power iterations. With another optimiser it ends with the gradients.

    Args:
        update: The update; its methods are traced as they are.
        samples: An example of the samples for `n_updates` updates.
        n_updates: How many updates share the samples.
        observations: An example of the observations to act on.

    Attributes:
        refine: The power iterations after another optimiser's step; None where there are none.
        assumptions: What it was compiled for.
    """

    def __init__(
        self, update: Update, samples: Batch, n_updates: int, observations: Tensor
    ) -> None:
        policy = update.policy
        self._update = update
        self._fields = [name for name, value in samples._asdict().items() if value is not None]
        self._n_gradients = 0
        self._log_names: list[str] = []
        self._moments = moments(update)
        counts = [len({id(step) for step in group.steps}) for group in self._moments]
        self._steps_inside = update.uses_sndqn_adam and set(counts) == {1}
        # Passed in as inputs: otherwise they would be computed once for each weight.
        self._sizes = np.zeros((len(self._moments), 2))
        sizes = torch.from_numpy(self._sizes).unbind()  # the same memory, written at every step
        buffers = list(policy.buffers())
        changed = list(buffers)
        if self._steps_inside:
            stepped = list(policy.q_net.parameters())
            stepped += [t for m in self._moments for t in [*m.exp_avgs, *m.exp_avg_sqs]]
            changed += stepped
        self.assumptions = Assumptions(update)

        def whole(*tensors: Tensor) -> list[Tensor]:
            gradients, priorities, logs = update.gradients(self._batch(tensors))
            if self._steps_inside:
                update.step(gradients, sizes)
                gradients = []
            self._n_gradients, self._log_names = len(gradients), list(logs)
            return [*gradients, priorities, *logs.values()]

        def greedy_actions(observations: Tensor) -> list[Tensor]:
            return [policy._predict(observations, deterministic=True)]

        def refine() -> list[Tensor]:
            policy.refine()
            return []

        # Memory to copy small samples to, by number of updates; None: large ones are not copied.
        self._memories: dict[int, FixedSamples] | None = None
        example = split(samples, len(samples.rewards) // n_updates)[0]
        if are_small(samples, n_updates):
            memory = FixedSamples(samples, n_updates, widen=True)
            self._memories = {n_updates: memory}
            example = memory.batches[0]
        self._layouts = _layouts(example)
        self._observation_layout = _layout(observations)
        # On several threads, the loops of torch 2.13 write beyond their memory in IQN's update on
        # MinAtar: the process aborts (tests/acceleration/test_compilation.py). In the other
        # distributions' updates it was not seen, and is not risked.
        distributional = isinstance(policy, SNDQNPolicy) and policy.spec.head != "linear"
        self._compiled = compile_function(
            whole, *self._inputs(example), changed=changed, one_thread=distributional
        )
        self.refine: Callable[[], object] | None = None
        with torch.no_grad():
            self._greedy_actions = compile_function(greedy_actions, widened(observations))
            if buffers and not self._steps_inside:
                compiled = compile_function(refine, changed=buffers)
                networks_hold = self.assumptions.networks_hold
                self.refine = lambda: (compiled if networks_hold() else refine)()

    def still_valid(self) -> bool:
        """Returns whether memory and settings are still those that were compiled."""
        return self.assumptions.still_hold()

    def run_updates(self, samples: Batch, n_updates: int, n_converging: int) -> Result | None:
        """Makes updates, each on its share; None for samples that it was not compiled for.

        Args:
            samples: The samples of all the updates.
            n_updates: How many updates.
            n_converging: After how many of them, the first ones, σ is found anew.
        """
        batches = self._accepted(samples, n_updates)
        if batches is None:
            return None
        # Little Python runs between two updates: it runs with cold caches.
        sizes: list[Any] = [None] * n_updates
        if self._steps_inside:
            sizes = self._count_steps(n_updates)
        for index, (batch, size) in enumerate(zip(batches, sizes, strict=True)):
            self._update.draw_noise()
            if size is not None:
                self._sizes[:] = size
            outputs = self._compiled(*self._inputs(batch))
            if self._n_gradients:
                self._update.step(outputs[: self._n_gradients])
            if index < n_converging:
                self._update.converge_sigma()
        priorities, *logs = outputs[self._n_gradients :]
        return priorities, dict(zip(self._log_names, logs, strict=True))

    def _count_steps(self, n_updates: int) -> list[tuple[tuple[float, float], ...]]:
        """Counts steps of the optimiser; returns what `Adam.advance` does, by update and group."""
        advance = self._update.policy.optimizer.advance
        sizes = [advance(index, params, n_updates) for index, params in self._update.groups]
        return list(zip(*sizes, strict=True))

    def _accepted(self, samples: Batch, n_updates: int) -> list[Batch] | None:
        """Returns the samples as batches; None where this was compiled for something else."""
        if not self.assumptions.still_hold():
            return None
        if self._memories is None:
            batches = split(samples, len(samples.rewards) // n_updates)
            return batches if _layouts(batches[0]) == self._layouts else None
        memory = self._memories.get(n_updates)
        if memory is None:
            memory = FixedSamples(samples, n_updates, widen=True)
            if _layouts(memory.batches[0]) != self._layouts:
                return None
            self._memories[n_updates] = memory
        if not memory.fit(samples):
            return None
        memory.load(samples)
        return memory.batches

    def greedy_actions(self, observations: Tensor) -> Tensor | None:
        """Computes what the policy's `_predict` does; None for what it was not compiled for."""
        known = _layout(observations) == self._observation_layout
        if not known or not self.assumptions.networks_hold():
            return None
        return self._greedy_actions(widened(observations))[0]

    def _inputs(self, batch: Batch) -> list[Tensor]:
        return [widened(getattr(batch, name)) for name in self._fields]

    def _batch(self, tensors: Sequence[Tensor]) -> Batch:
        return Batch(**dict(zip(self._fields, tensors, strict=True)))
