"""The updates between two steps as one CUDA graph: launched by one call, not by hundreds each.

A graph repeats the same operations on the same memory. So what an update reads lies where it lay
when the graph was recorded, samples and learning rates included, and nothing waits for the device.

This has not run on a GPU yet: none was at hand. Everything but the recording itself runs on any
device and is tested there; `tests/algorithms/test_capture.py` tests the rest where CUDA is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sndqn.algorithms.assumptions import Assumptions
from sndqn.algorithms.batches import FixedSamples
from sndqn.errors import ConfigError
from sndqn.replay import Batch

Result = tuple[Tensor, dict[str, Tensor]]


class FixedUpdates:
    """Some updates whose every input stays where it is in memory.

    Args:
        algorithm: Whose; with sndqn's own policy and Adam.
        samples: Samples as all later ones will be.
        n_updates: Among how many updates they are shared out.

    Raises:
        ConfigError: The policy or the optimiser is not sndqn's.
    """

    def __init__(self, algorithm: Any, samples: Batch, n_updates: int) -> None:
        if not algorithm.has_own_step:
            raise ConfigError("a captured update needs sndqn's own policy and Adam")
        self._algorithm = algorithm
        self._n_updates = n_updates
        self._samples = FixedSamples(samples, n_updates)
        self._moments = algorithm.moments()
        self.assumptions = Assumptions(algorithm)
        self._groups = algorithm.policy.optimizer.param_groups
        self._learning_rates = [
            torch.zeros((), device=algorithm.device) for _ in range(len(self._groups))
        ]

    @property
    def changed(self) -> list[Tensor]:
        """The tensors that the updates change."""
        policy = self._algorithm.policy
        found = [*policy.q_net.parameters(), *policy.buffers()]
        for moments in self._moments:
            found += [*moments.exp_avgs, *moments.exp_avg_sqs, *moments.steps]
        return list({id(tensor): tensor for tensor in found}.values())

    def accepts(self, samples: Batch, n_updates: int) -> bool:
        """Says whether the samples, and all else, are as those this was made for."""
        fit = n_updates == self._n_updates and self._samples.fit(samples)
        return fit and self.assumptions.hold()

    def load(self, samples: Batch) -> None:
        """Puts samples, and the learning rates as they are now, where `make` reads them."""
        self._samples.load(samples)
        for rate, group in zip(self._learning_rates, self._groups, strict=True):
            rate.fill_(group["lr"])

    def make(self) -> Result:
        """Makes the updates; gives the last one's priorities and logs."""
        optimizer = self._algorithm.policy.optimizer
        optimizer.learning_rates = self._learning_rates
        try:
            for batch in self._samples.batches:
                self._algorithm.draw_noise()
                last: Result = self._algorithm.step(batch)
        finally:
            optimizer.learning_rates = None
        return last


class CapturedUpdates:
    """Some updates as one CUDA graph; arguments and errors as `FixedUpdates`."""

    def __init__(self, algorithm: Any, samples: Batch, n_updates: int) -> None:
        self._algorithm = algorithm
        self._fixed = FixedUpdates(algorithm, samples, n_updates)
        self._fixed.load(samples)
        self._graph, self._result = capture(self._fixed.make, self._fixed.changed)
        self.assumptions = self._fixed.assumptions

    def make_updates(self, samples: Batch, n_updates: int) -> Result | None:
        """Makes the updates on other samples; None where these are not as the first were.

        What it gives lies where the next call's will.
        """
        if self._algorithm.settles_sigma() or not self._fixed.accepts(samples, n_updates):
            return None
        self._fixed.load(samples)
        self._graph.replay()
        return self._result


def capture(
    function: Callable[[], Result], changed: Sequence[Tensor]
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Records what a function does on the GPU; gives the graph, and where its result will lie.

    Args:
        function: Changes tensors in place and waits for no value.
        changed: The tensors it changes; they are left as they were.

    Raises:
        Exception: Whatever torch raises where it cannot record.
    """
    kept, random = [tensor.clone() for tensor in changed], torch.cuda.get_rng_state()
    try:
        # Libraries set themselves up in the first calls, which must not be recorded.
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
