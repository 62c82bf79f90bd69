"""Faster updates. Everything in this package exists for speed alone.

Without it, sndqn computes the same, more slowly. `sndqn.algorithms.acceleration` is the only module
that imports it, and states what it expects of it.
"""

import shutil

from torch import Tensor

from sndqn.acceleration.capture import CapturedUpdates
from sndqn.acceleration.compiled_update import CompiledUpdate
from sndqn.acceleration.interface import Update
from sndqn.acceleration.memory import keep_freed_memory
from sndqn.acceleration.threads import ThreadsCallback, choose_threads
from sndqn.replay import Batch

__all__ = [
    "ThreadsCallback",
    "accelerate",
    "choose_threads",
    "compiler_available",
    "keep_freed_memory",
]


def compiler_available() -> bool:
    """Returns whether there is a C++ compiler for TorchInductor to call."""
    return any(shutil.which(name) for name in ("g++", "clang++"))


def accelerate(
    update: Update, samples: Batch, n_updates: int, observations: Tensor
) -> CompiledUpdate | CapturedUpdates:
    """Prepares faster updates: compiled ones, or on a GPU captured ones.

    Args:
        update: The update that they are to do the work of.
        samples: An example of the samples for `n_updates` updates.
        n_updates: How many updates share the samples.
        observations: An example of the observations to act on.

    Raises:
        Exception: Whatever torch raises where it cannot compile or capture.
    """
    if update.policy.device.type == "cuda":
        return CapturedUpdates(update, samples, n_updates)
    return CompiledUpdate(update, samples, n_updates, observations)
