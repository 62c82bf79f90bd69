"""The memory that accelerated updates read their samples from."""

from typing import Any

import torch
from torch import Tensor

from sndqn.replay import Batch, split

# Numbers in a batch's observations: MinAtar's are 12,800, Atari's 903,168, too many to copy.
_MOST_NUMBERS_TO_COPY = 2**14
_BYTES_ARE_SLOW = torch.backends.cpu.get_cpu_capability() != "AVX512"


def widened(numbers: Tensor) -> Tensor:
    """Returns bytes as floats where torch converts them faster than compiled code; else itself.

    Without AVX-512, TorchInductor loads bytes into vectors by way of memory.
    """
    return numbers.float() if _BYTES_ARE_SLOW and numbers.dtype == torch.uint8 else numbers


def are_small(samples: Batch, n_batches: int) -> bool:
    """Returns whether it is faster to copy samples than to read them where they are."""
    numbers: int = samples.observations.numel()
    return numbers <= _MOST_NUMBERS_TO_COPY * n_batches


class FixedSamples:
    """Memory for samples that stays in one place, and its division into batches.

    Attributes:
        batches: Views of that memory; they hold what `load` wrote last.

    Args:
        samples: An example, of the shapes and dtypes of all later ones; observations in one array.
        n_batches: How many batches the samples make.
        widen: Whether observations of bytes are stored as floats.
    """

    def __init__(self, samples: Batch, n_batches: int, *, widen: bool = False) -> None:
        self._forms = _forms(samples)
        own = {name: t.clone() for name, t in samples._asdict().items() if t is not None}
        if widen and samples.observations.dtype == torch.uint8:
            for name in ("observations", "next_observations"):
                own[name] = own[name].float()
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
