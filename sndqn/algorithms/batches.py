"""Batches: how a sample of the replay becomes them, and what they need of the environment."""

from typing import Any

import torch
from stable_baselines3.common.vec_env import VecEnvWrapper, VecFrameStack
from torch import Tensor

from sndqn.envs.atari_vector import AtariVecEnv
from sndqn.replay import Batch

# Numbers in a batch's observations: MinAtar's are 12,800, Atari's 903,168. To copy those cost 2 %.
_SMALL = 2**14
_BYTES_ARE_SLOW = torch.backends.cpu.get_cpu_capability() != "AVX512"


def frames_in(env: Any) -> int:
    """Says of how many frames an environment's observations are a stack; 1 where they are none."""
    while env is not None:
        if isinstance(env, VecFrameStack):
            return int(env.stacked_obs.n_stack)
        if isinstance(env, AtariVecEnv):
            return env.settings.frame_stack
        env = env.venv if isinstance(env, VecEnvWrapper) else None
    return 1


def split(samples: Batch, size: int) -> list[Batch]:
    """Gives a sample as batches of so many rows, as views."""
    n = len(samples.rewards) // size
    if n == 1:
        return [samples]

    def parts(value: Any) -> Any:
        if isinstance(value, dict):
            columns = zip(*map(parts, value.values()), strict=True)
            return [dict(zip(value, row, strict=True)) for row in columns]
        # chunk takes less than half the time of split.
        return [None] * n if value is None else value.chunk(n)

    return [type(samples)(*fields) for fields in zip(*map(parts, samples), strict=True)]


def widened(numbers: Tensor) -> Tensor:
    """Gives bytes as floats where torch makes them faster than compiled code; others as they are.

    Without AVX-512, TorchInductor takes bytes to its vectors by way of memory: 1.1 ms for a batch
    of 32 of Atari's (AMD Zen 3). Torch's floats, and a loop over them, take 0.6.
    """
    return numbers.float() if _BYTES_ARE_SLOW and numbers.dtype == torch.uint8 else numbers


def are_small(samples: Batch, n_batches: int) -> bool:
    """Says whether copying a sample takes less than splitting it: MinAtar's, not Atari's."""
    numbers: int = samples.observations.numel()
    return numbers <= _SMALL * n_batches


class FixedSamples:
    """Samples that stay where they are in memory, shared out among batches.

    Attributes:
        batches: Views of them; what `load` writes, they hold.

    Args:
        samples: As all later ones will be; one array an observation.
        n_batches: How many batches they make.
        widen: Whether observations of bytes are held as floats, which torch makes of them faster
            than compiled code does.
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
        """Says whether samples have the shapes and dtypes of those that this was made for."""
        return _forms(samples) == self._forms

    def load(self, samples: Batch) -> None:
        """Puts samples where the batches are."""
        for own, given in zip(self._samples, samples, strict=True):
            if own is not None:
                own.copy_(given, non_blocking=True)


def _forms(samples: Batch) -> list[Any]:
    return [None if t is None else (t.shape, t.dtype) for t in samples]
