"""The updates between two steps as one CUDA graph, which one call launches.

A graph repeats the same operations on the same memory. So everything that an update reads stays in
one place, samples and learning rates included, and nothing waits for the device.

The recording itself has never run on a GPU: none was at hand. All else runs on any device and is
tested there; `tests/acceleration/test_capture.py` tests the rest where there is CUDA.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sndqn.acceleration.assumptions import Assumptions
from sndqn.acceleration.graph_linalg import GraphLinalg
from sndqn.acceleration.interface import Result, Update, moments
from sndqn.errors import ConfigError
from sndqn.replay import Batch, split


class FixedSamples:
    """Memory for samples that stays in one place, and its division into batches.

    Attributes:
        batches: Views of that memory; they hold what `load` wrote last.

    Args:
        samples: An example, of the shapes and dtypes of all later ones; observations in one array.
        n_batches: How many batches the samples make.
    """

    def __init__(self, samples: Batch, n_batches: int) -> None:
        self._forms = _forms(samples)
        own = {name: t.clone() for name, t in samples._asdict().items() if t is not None}
        self._samples = Batch(**own)
        self.batches = split(self._samples, len(samples.rewards) // n_batches)

    def fit(self, samples: Batch) -> bool:
        """Returns whether samples have the shapes and dtypes of the example."""
        return _forms(samples) == self._forms

    def load(self, samples: Batch) -> None:
        """Copies samples into this memory."""
        for own, given in zip(self._samples, samples, strict=True):
            if own is not None:
                own.copy_(given, non_blocking=True)


def _forms(samples: Batch) -> list[Any]:
    return [None if t is None else (t.shape, t.dtype) for t in samples]


class FixedUpdates:
    """A fixed number of updates, all of whose inputs stay in one place in memory.

    Args:
        update: One update, with sndqn's own policy and Adam.
        samples: An example of the samples for `n_updates` updates.
        n_updates: How many updates share the samples.

    Raises:
        ConfigError: The policy or the optimiser is not sndqn's.
    """

    def __init__(self, update: Update, samples: Batch, n_updates: int) -> None:
        if not update.uses_sndqn_adam:
            raise ConfigError("a captured update needs sndqn's own policy and Adam")
        self._update = update
        self._n_updates = n_updates
        self._samples = FixedSamples(samples, n_updates)
        self._moments = moments(update)
        self.assumptions = Assumptions(update)
        self._groups = update.policy.optimizer.param_groups
        device = update.policy.device
        self._learning_rates = [torch.zeros((), device=device) for _ in self._groups]

    @property
    def changed(self) -> list[Tensor]:
        """The tensors that the updates change."""
        policy = self._update.policy
        found = [*policy.q_net.parameters(), *policy.buffers()]
        for group in self._moments:
            found += [*group.exp_avgs, *group.exp_avg_sqs, *group.steps]
        return list({id(tensor): tensor for tensor in found}.values())

    def accepts(self, samples: Batch, n_updates: int) -> bool:
        """Returns whether samples, memory and settings are as those that this was made for."""
        fit = n_updates == self._n_updates and self._samples.fit(samples)
        return fit and self.assumptions.still_hold()

    def load(self, samples: Batch) -> None:
        """Copies samples and the present learning rates to where `make` reads them."""
        self._samples.load(samples)
        for rate, group in zip(self._learning_rates, self._groups, strict=True):
            rate.fill_(group["lr"])

    def make(self) -> Result:
        """Makes the updates; returns the last one's priorities and logs."""
        optimizer = self._update.policy.optimizer
        optimizer.learning_rates = self._learning_rates
        try:
            for batch in self._samples.batches:
                last = self._update(batch)
        finally:
            optimizer.learning_rates = None
        return last


class CapturedUpdates:
    """A fixed number of updates as one CUDA graph; arguments and errors as `FixedUpdates`."""

    refine: None = None  # eager updates make their power iterations as ever

    def __init__(self, update: Update, samples: Batch, n_updates: int) -> None:
        self._fixed = FixedUpdates(update, samples, n_updates)
        self._fixed.load(samples)
        with GraphLinalg():
            self._graph, self._result = capture(self._fixed.make, self._fixed.changed)
        self.assumptions = self._fixed.assumptions

    def still_valid(self) -> bool:
        """Returns whether memory and settings are still those that were recorded."""
        return self.assumptions.still_hold()

    def greedy_actions(self, observations: Tensor) -> None:
        """Returns None: acting is not captured."""

    def run_updates(self, samples: Batch, n_updates: int, n_converging: int) -> Result | None:
        """Makes the updates on other samples; None where these are not as the first were.

        None as well where σ is to be found anew: that is not captured. The next call overwrites
        what it returns.
        """
        if n_converging or not self._fixed.accepts(samples, n_updates):
            return None
        self._fixed.load(samples)
        self._graph.replay()
        return self._result


def capture(
    function: Callable[[], Result], changed: Sequence[Tensor]
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Records what a function does on the GPU; returns the graph and the memory of its result.

    Args:
        function: Changes tensors in place and waits for no value.
        changed: The tensors it changes; they are left as they were.

    Raises:
        Exception: Whatever torch raises where it cannot record.
    """
    kept, random = [tensor.clone() for tensor in changed], torch.cuda.get_rng_state()
    try:
        # The first calls initialise libraries, which must not be recorded.
        beside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                function()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = function()
    finally:
        with torch.no_grad():
            for tensor, value in zip(changed, kept, strict=True):
                tensor.copy_(value)
        torch.cuda.set_rng_state(random)
    return graph, result
