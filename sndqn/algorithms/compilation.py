"""Compiles a function of tensors by tracing what it does: the eager code is the only code.

The function runs once under a tracer, which writes down every tensor operation, the backward pass
included; TorchInductor turns the list into C++. Whatever tensors the function reaches by itself,
such as weights and singular vectors, become inputs, so that in-place changes are seen by both.
"""

import ctypes
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.algorithms import onednn
from sndqn.algorithms.assumptions import Assumptions
from sndqn.algorithms.batches import FixedSamples, are_small, split, widened
from sndqn.algorithms.decompositions import decompositions
from sndqn.replay import Batch

Compiled = Callable[..., list[Tensor]]


def compiler_available() -> bool:
    """Says whether there is a C++ compiler for TorchInductor to call."""
    return any(shutil.which(name) for name in ("g++", "clang++"))


def keep_freed_memory() -> None:
    """Has glibc keep freed memory instead of giving it back to the system, in the whole process.

    An update of the Nature CNN takes and frees 12 MB. By default glibc may give it back each time,
    and the 3100 page faults of taking it again were 8 to 15 % of the update.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        trim_threshold, mmap_threshold = -1, -3  # glibc's names of the two, as in malloc.h
        mallopt(trim_threshold, 2**30)
        mallopt(mmap_threshold, 2**25)  # the most it takes: a large replay still grows as it fills


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
    """Leaves out what torch says to its developers: of old parts, and of detours through Python."""
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
    finally:  # tracing does what it writes down, as far as it comes
        with torch.no_grad():
            for tensor, value in changed:
                tensor.copy_(value)
    with torch.no_grad():
        reached = _make_inputs_of_attributes(graph)
        # Layouts are checked once, by the caller, instead of before every operation. C++ also calls
        # the loops and matrix products one after the other: in Python that took an eighth of
        # the update of MinAtar and CartPole, a third of CartPole's power iteration.
        options: dict[str, Any] = {"size_asserts": False, "cpp_wrapper": True}
        # A gradient that two loops read is written to memory first where it takes more than this
        # many inputs, 4 by default: with the norm's share it takes 6, and is 6 MB.
        options["realize_reads_threshold"] = 12
        # What a thread is to have at least, in turns of a loop, 512 by default: dividing loops of
        # a few µs costs more, most of all where torch divides the inner one of several.
        options["cpp.min_chunk_size"] = 2**14
        if one_thread:
            options["cpp.threads"] = 1
        elif torch.get_num_threads() not in (1, os.cpu_count()):
            # On as many as torch has at each call; with one a core it is so, and a fifth faster.
            options["cpp.dynamic_threads"] = True
        call = _compile_graph(graph, [*example, *reached], options)
    return lambda *inputs: call([*inputs, *reached])


def _compile_graph(
    graph: fx.GraphModule, inputs: list[Tensor], options: dict[str, Any]
) -> Callable[[list[Tensor]], list[Tensor]]:
    """Compiles a graph; what it gives takes its inputs as a list, none of them with a gradient.

    Torch wraps what it has compiled in functions for whatever aliases, views and gradients a call
    may bring. Here none do, and small networks would take a tenth longer for them.
    """
    from torch._functorch.compile_utils import fx_graph_cse
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner  # takes a second

    from sndqn.algorithms.storing import StoreOnce

    onednn.register()
    options = {**options, "post_grad_custom_post_pass": StoreOnce()}
    found: list[tuple[fx.GraphModule, Any]] = []

    def keep(functional: fx.GraphModule, *args: Any, **kwargs: Any) -> Any:
        # The gradient's trace repeats what the values' has, the patches of convolutions among it.
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
            # Around this torch puts records of what runs when, a tenth of CartPole's update.
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
        delattr(graph, name)  # or torch would hand it in once more
    for node in graph.graph.nodes:
        node.meta.clear()  # of tensors of the tracer's, which the compiler would take for its own
    graph.recompile()
    return reached


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype


def _layouts(batch: Batch) -> list[Any]:
    return [None if t is None else _layout(t) for t in batch]


class CompiledUpdate:
    """What an algorithm computes at every step, compiled: updates and greedy actions.

    An update is one function where policy and optimiser are sndqn's own: gradients, the optimiser's
    step and the power iterations. With another optimiser it ends with the gradients.

    Args:
        algorithm: Whose; its methods are traced as they are.
        samples: Samples as all later ones will be.
        n_updates: Among how many updates they are shared out.
        observations: Observations to act on, as every later ones will be.

    Attributes:
        refine: The power iterations after another optimiser's step; None where there are none.
        assumptions: What it was compiled for.
    """

    def __init__(
        self, algorithm: Any, samples: Batch, n_updates: int, observations: Tensor
    ) -> None:
        keep_freed_memory()
        policy = algorithm.policy
        self._algorithm = algorithm
        self._fields = [name for name, value in samples._asdict().items() if value is not None]
        self._n_gradients = 0
        self._log_names: list[str] = []
        self._moments = algorithm.moments()
        counts = [len({id(step) for step in moments.steps}) for moments in self._moments]
        self._steps_inside = algorithm.has_own_step and set(counts) == {1}
        # Inputs: computed in the loops over the weights, they would be computed for each of them.
        self._sizes = np.zeros((len(self._moments), 2))
        sizes = torch.from_numpy(self._sizes).unbind()  # the same memory, written at every step
        buffers = list(policy.buffers())
        changed = list(buffers)
        if self._steps_inside:
            stepped = list(policy.q_net.parameters())
            stepped += [t for m in self._moments for t in [*m.exp_avgs, *m.exp_avg_sqs]]
            changed += stepped
        self.assumptions = Assumptions(algorithm)

        def update(*tensors: Tensor) -> list[Tensor]:
            gradients, priorities, logs = algorithm.update(self._batch(tensors))
            if self._steps_inside:
                algorithm.apply_gradients(gradients, sizes)
                gradients = []
            self._n_gradients, self._log_names = len(gradients), list(logs)
            return [*gradients, priorities, *logs.values()]

        def greedy_actions(observations: Tensor) -> list[Tensor]:
            return [policy._predict(observations, deterministic=True)]

        def refine() -> list[Tensor]:
            policy.refine()
            return []

        # By number of updates, where their samples are put; large ones are read where they are.
        self._memories: dict[int, FixedSamples] | None = None
        example = split(samples, len(samples.rewards) // n_updates)[0]
        if are_small(samples, n_updates):
            memory = FixedSamples(samples, n_updates, widen=True)
            self._memories = {n_updates: memory}
            example = memory.batches[0]
        self._layouts = _layouts(example)
        self._observation_layout = _layout(observations)
        # On several threads, the loops of torch 2.13 write beyond their memory in IQN's update on
        # MinAtar: the process aborts (tests/algorithms/test_compilation.py). In the other
        # distributions' updates it was not seen, and is not risked.
        self._update = compile_function(
            update,
            *self._inputs(example),
            changed=changed,
            one_thread=algorithm.head != "linear",
        )
        self.refine: Callable[[], object] | None = None
        with torch.no_grad():
            self._greedy_actions = compile_function(greedy_actions, widened(observations))
            if buffers and not self._steps_inside:
                compiled = compile_function(refine, changed=buffers)
                networks_hold = self.assumptions.networks_hold
                self.refine = lambda: (compiled if networks_hold() else refine)()

    def make_updates(
        self, samples: Batch, n_updates: int
    ) -> tuple[Tensor, dict[str, Tensor]] | None:
        """Does what the algorithm's `make_updates` does; None for what it was not compiled for."""
        batches = self._accepted(samples, n_updates)
        if batches is None:
            return None
        # Whatever Python does between two updates it does with cold caches: little, then.
        sizes: list[Any] = [None] * n_updates
        if self._steps_inside:
            sizes = self._algorithm.step_sizes(n_updates)
        for index, (batch, size) in enumerate(zip(batches, sizes, strict=True)):
            self._algorithm.draw_noise()
            if size is not None:
                self._sizes[:] = size
            outputs = self._update(*self._inputs(batch))
            if self._n_gradients:
                self._algorithm.apply_gradients(outputs[: self._n_gradients])
            self._algorithm.settle_sigma(index)
        priorities, *logs = outputs[self._n_gradients :]
        return priorities, dict(zip(self._log_names, logs, strict=True))

    def _accepted(self, samples: Batch, n_updates: int) -> list[Batch] | None:
        """Gives the batches of samples, where these and all else are as when this was compiled."""
        if not self.assumptions.hold():
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
