"""An algorithm's updates and greedy actions, compiled."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sndqn.acceleration.assumptions import Assumptions
from sndqn.acceleration.compilation import compile_function, layout
from sndqn.acceleration.interface import Result, Update, moments
from sndqn.policies import SNDQNPolicy
from sndqn.replay import Batch, split

_BYTES_ARE_SLOW = torch.backends.cpu.get_cpu_capability() != "AVX512"


def widened(numbers: Tensor) -> Tensor:
    """Returns bytes as floats where torch converts them faster than compiled code; else itself.

    Without AVX-512, TorchInductor loads bytes into vectors by way of memory.
    """
    return numbers.float() if _BYTES_ARE_SLOW and numbers.dtype == torch.uint8 else numbers


def _layouts(batch: Batch) -> list[Any]:
    return [None if t is None else layout(t) for t in batch]


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
        self._sizes = np.zeros((len(self._moments), 3))
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

        example = split(samples, len(samples.rewards) // n_updates)[0]
        self._layouts = _layouts(example)
        self._observation_layout = layout(observations)
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

    def _count_steps(self, n_updates: int) -> list[tuple[tuple[float, ...], ...]]:
        """Counts steps of the optimiser; returns what `Adam.advance` does, by update and group."""
        advance = self._update.policy.optimizer.advance
        sizes = [advance(index, params, n_updates) for index, params in self._update.groups]
        return list(zip(*sizes, strict=True))

    def _accepted(self, samples: Batch, n_updates: int) -> list[Batch] | None:
        """Returns the samples as batches; None where this was compiled for something else."""
        if not self.assumptions.still_hold():
            return None
        batches = split(samples, len(samples.rewards) // n_updates)
        return batches if _layouts(batches[0]) == self._layouts else None

    def greedy_actions(self, observations: Tensor) -> Tensor | None:
        """Computes what the policy's `_predict` does; None for what it was not compiled for."""
        known = layout(observations) == self._observation_layout
        if not known or not self.assumptions.networks_hold():
            return None
        return self._greedy_actions(widened(observations))[0]

    def _inputs(self, batch: Batch) -> list[Tensor]:
        return [widened(getattr(batch, name)) for name in self._fields]

    def _batch(self, tensors: Sequence[Tensor]) -> Batch:
        return Batch(**dict(zip(self._fields, tensors, strict=True)))
