"""How steep a Q-network is: the largest slope found, and the bound that no slope exceeds."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from torch import Tensor, nn

from sndqn.diagnostics.networks import observing, pieces, prepared, values_of_prepared
from sndqn.networks.heads import CategoricalHead, DuelingHead, LinearHead, QuantileHead
from sndqn.networks.heads.layers import Streams
from sndqn.networks.q_network import ActionValues, Observation
from sndqn.networks.torsos import MLP, MinAtarCNN, NatureCNN
from sndqn.spectral import weight_layers

# What stretches nothing, or no more than its weight does; and what runs its parts one by one.
_PLAIN = (nn.Linear, nn.Conv2d, nn.ReLU, nn.Tanh, nn.ELU, nn.Flatten, nn.Identity)
_TORSOS = (MLP, NatureCNN, MinAtarCNN, SB3NatureCNN, FlattenExtractor)
_HEADS = (LinearHead, DuelingHead, QuantileHead, CategoricalHead)


def slopes(network: Any, observations: Observation) -> Tensor:
    """Computes |∂Q(s, a)/∂s| at each state's greedy action, (batch,), and leaves no trace.

    The states are as the network sees them, images in [0, 1]. The largest is a lower bound of the
    network's Lipschitz constant.
    """
    found = []
    with observing(network), torch.enable_grad():
        for part in pieces(observations):
            ready = prepared(network, part)
            names = list(ready) if isinstance(ready, dict) else [None]
            leaves = [(ready if n is None else ready[n]).detach().requires_grad_() for n in names]
            inputs = dict(zip(names, leaves, strict=True)) if names[0] else leaves[0]
            chosen = values_of_prepared(network, inputs).max(dim=1).values.sum()
            gradients = torch.autograd.grad(chosen, leaves)
            squares = [g.detach().flatten(1).square().sum(dim=1) for g in gradients]
            found.append(torch.stack(squares).sum(dim=0).sqrt())
    return torch.cat(found)


def certified_bound(network: Any, effective: Mapping[str, float]) -> float | None:
    """Multiplies the norms of a chain of layers: no slope |∂Q(s, a)/∂s| is steeper.

    Of a noisy network it is the bound of its mean weights.

    Args:
        network: A Q-network.
        effective: The norm by which each weight layer acts, by name, a convolution's as an
            operator.

    Returns:
        The bound; None where the product is none: layers added up (a residual block), features
        times an embedding (IQN), activations or modules of which nothing is known.

    Source: Gouk et al., Machine Learning 110 (2021), arXiv 1804.04368.
    """
    head = network.quantile_net if hasattr(network, "quantile_net") else network.q_net
    ours = isinstance(network, ActionValues)
    known_head = isinstance(head, _HEADS) if ours else type(head) is nn.Sequential
    if not (known_head and _is_chain(network.features_extractor) and _has_plain_leaves(head)):
        return None
    factor = 1.0
    if isinstance(head, CategoricalHead):
        # Q = Σ p z: its derivative by the logits, p (z - Q), is no longer than the deviation of z.
        factor = float(head.support[-1] - head.support[0]) / 2
    if any(isinstance(module, Streams) for module in head.modules()):
        factor *= math.sqrt(2)  # V + A - mean A is a map of rows of the length √(2 - 1/n)
    scheduler = getattr(network, "scheduler", None)
    if scheduler is not None and scheduler.name == "div_out" and scheduler.form == "product":
        with observing(network):
            factor /= float(scheduler.product())
    by_index: dict[int, float] = {}
    for entry in weight_layers(network):  # of streams side by side the Euclidean sum
        so_far = by_index.get(entry.index, 0.0)
        by_index[entry.index] = math.hypot(so_far, effective[entry.name])
    return factor * math.prod(by_index.values())


def _is_chain(module: nn.Module) -> bool:
    """Returns whether a torso runs its parts one by one, each of them known."""
    if isinstance(module, _PLAIN):
        return True
    one_by_one = type(module) is nn.Sequential or isinstance(module, _TORSOS)
    return one_by_one and all(map(_is_chain, module.children()))


def _has_plain_leaves(module: nn.Module) -> bool:
    """Returns whether the layers and activations of a head are known."""
    children = list(module.children())
    if isinstance(module, _PLAIN) or not children:
        return isinstance(module, _PLAIN)
    return all(map(_has_plain_leaves, children))
