"""What heads are made of: hidden layers, one or two streams of them, and their outputs."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sndqn.networks.noisy import NoisyLinear
from sndqn.networks.normalization import NormalizationName, activated


class Layers(nn.Sequential):
    """Hidden layers and an output layer, all of them noisy or none."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        hidden: Sequence[int],
        activation_fn: type[nn.Module],
        noisy: bool,
        normalization: NormalizationName = "none",
    ) -> None:
        linear = NoisyLinear if noisy else nn.Linear
        widths = [n_in, *hidden]
        layers: list[nn.Module] = []
        for n_from, n_to in itertools.pairwise(widths):
            layers += [linear(n_from, n_to), activated(activation_fn(), n_to, normalization)]
        super().__init__(*layers, linear(widths[-1], n_out))


class Streams(nn.Module):
    """Two networks side by side; layer selection gives their layers shared indices."""

    parallel = True

    def __init__(self, value: nn.Module, advantage: nn.Module) -> None:
        super().__init__()
        self.value = value
        self.advantage = advantage


class ActionOutputs(nn.Module):
    """Puts out n numbers for every action, by one network or by a value and an advantage stream.

    out(s, a) = V(s) + A(s, a) - mean over a' of A(s, a'), for each of the n numbers by itself, or
    A(s, a) alone where `dueling` is false.

    Args:
        features_dim: Length of the features.
        n_actions: Number of actions.
        n: Numbers per action.
        net_arch: Widths of the hidden layers, of each of the two streams.
        activation_fn: Activation after each of them.
        dueling: Whether there are two streams.
        noisy: Whether the layers are noisy.
        normalization: "none", "layer" or "batch": of the hidden layers.

    Source: Wang et al., ICML 2016 (arXiv 1511.06581), equation 9; over the atoms of a distribution
    Hessel et al., AAAI 2018 (arXiv 1710.02298).
    """

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        n: int,
        net_arch: Sequence[int] = (),
        activation_fn: type[nn.Module] = nn.ReLU,
        *,
        dueling: bool = False,
        noisy: bool = False,
        normalization: NormalizationName = "none",
    ) -> None:
        super().__init__()
        self.n_actions, self.n, self.dueling = n_actions, n, dueling

        def layers(n_out: int) -> Layers:
            return Layers(features_dim, n_out, net_arch, activation_fn, noisy, normalization)

        if dueling:
            self.streams = Streams(value=layers(n), advantage=layers(n_actions * n))
        else:
            self.layers = layers(n_actions * n)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (..., features) to (..., actions, n)."""
        if not self.dueling:
            out: Tensor = self.layers(features)
            return out.view(*out.shape[:-1], self.n_actions, self.n)
        value: Tensor = self.streams.value(features)
        advantage: Tensor = self.streams.advantage(features)
        advantage = advantage.view(*advantage.shape[:-1], self.n_actions, self.n)
        return value.unsqueeze(-2) + advantage - advantage.mean(dim=-2, keepdim=True)


class DistributionHead(nn.Module):
    """A head whose outputs describe a distribution of returns for every action."""

    def outputs(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Maps (batch, features) to (batch, actions, n), at fractions (batch, n) if it has any."""
        raise NotImplementedError

    def q_values(self, outputs: Tensor) -> Tensor:
        """Maps outputs to the mean return of each action, (batch, actions)."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, features) to Q-values, (batch, actions)."""
        return self.q_values(self.outputs(features))


def midpoints(n: int) -> Tensor:
    """Returns the middles of n equal parts of [0, 1], shape (n,)."""
    return (torch.arange(n, dtype=torch.float32) + 0.5) / n
