"""The target network: how it follows the online one, and how the online one is looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sndqn.spectral import SpectralLayer


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Runs a block with a network in evaluation mode: no power iteration moves."""
    training = network.training
    network.train(False)
    try:
        yield
    finally:
        network.train(training)


@torch.no_grad()
def sync_target(online: nn.Module, target: nn.Module, tau: float = 1.0) -> None:
    """Moves the target network towards the online one: θ' <- (1 - τ) θ' + τ θ.

    With τ = 1 the two are equal afterwards, to the bit. With τ < 1 the weights are averaged. The
    singular vectors never are: a mean of unit vectors is too short, and σ would come out too small.
    The target keeps its own and refines them for its own weights.
    """
    if tau == 1:
        sources: list[Any] = [*online.parameters(), *online.buffers()]
        destinations: list[Any] = [*target.parameters(), *target.buffers()]
        torch._foreach_copy_(destinations, sources)
        return
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
    for source, module in zip(online.modules(), target.modules(), strict=True):
        if isinstance(module, SpectralLayer):
            module.power_iteration()
        else:  # batch statistics, as Stable-Baselines3 does
            for name, buffer in module.named_buffers(recurse=False):
                buffer.copy_(source.get_buffer(name))
