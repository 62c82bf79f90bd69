"""Heads: from features to Q-values."""

import itertools
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from sndqn.errors import ConfigError

HeadName = Literal["linear", "dueling"]


def linear_head(
    features_dim: int,
    n_outputs: int,
    net_arch: Sequence[int] = (),
    activation_fn: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Makes hidden layers and one output per action; (batch, features) to (batch, outputs)."""
    widths = [features_dim, *net_arch]
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), activation_fn()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs))


class DuelingHead(nn.Module):
    """Q(s, a) = V(s) + A(s, a) - mean over a' of A(s, a').

    Args:
        features_dim: Length of the features.
        n_actions: Number of actions.
        net_arch: Widths of the hidden layers of each of the two streams.
        activation_fn: Activation after each hidden layer.

    Source: Wang et al., ICML 2016 (arXiv 1511.06581), equation 9.
    """

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        net_arch: Sequence[int] = (),
        activation_fn: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.streams = _Streams(
            value=linear_head(features_dim, 1, net_arch, activation_fn),
            advantage=linear_head(features_dim, n_actions, net_arch, activation_fn),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, features) to (batch, actions)."""
        value: Tensor = self.streams.value(features)
        advantage: Tensor = self.streams.advantage(features)
        return value + advantage - advantage.mean(dim=1, keepdim=True)


class _Streams(nn.Module):
    """Two networks side by side; layer selection gives their layers shared indices."""

    parallel = True

    def __init__(self, value: nn.Module, advantage: nn.Module) -> None:
        super().__init__()
        self.value = value
        self.advantage = advantage


def make_head(
    head: HeadName,
    features_dim: int,
    n_actions: int,
    net_arch: Sequence[int] = (),
    activation_fn: type[nn.Module] = nn.ReLU,
) -> nn.Module:
    """Makes a head by its name."""
    if head == "dueling":
        return DuelingHead(features_dim, n_actions, net_arch, activation_fn)
    if head != "linear":
        raise ConfigError(f'head: expected "linear" or "dueling", found {head!r}')
    return linear_head(features_dim, n_actions, net_arch, activation_fn)
