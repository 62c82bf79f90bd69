"""The heads whose outputs are Q-values, with one stream or two."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sndqn.networks.heads.layers import ActionOutputs, Layers
from sndqn.networks.normalization import NormalizationName


class LinearHead(Layers):
    """Hidden layers and one Q-value per action.

    Args:
        features_dim: Length of the features.
        n_actions: Number of actions.
        net_arch: Widths of the hidden layers.
        activation_fn: Activation after each of them.
        noisy: Whether the layers are noisy.
        normalization: "none", "layer" or "batch": of the hidden layers.
    """

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        net_arch: Sequence[int] = (),
        activation_fn: type[nn.Module] = nn.ReLU,
        *,
        noisy: bool = False,
        normalization: NormalizationName = "none",
    ) -> None:
        super().__init__(features_dim, n_actions, net_arch, activation_fn, noisy, normalization)

    def outputs(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Maps (batch, features) to Q-values, (batch, actions)."""
        q_values: Tensor = self(features)
        return q_values

    def q_values(self, outputs: Tensor) -> Tensor:
        """Returns the outputs, which are Q-values."""
        return outputs


class DuelingHead(ActionOutputs):
    """Q(s, a) = V(s) + A(s, a) - mean over a' of A(s, a').

    Args:
        features_dim: Length of the features.
        n_actions: Number of actions.
        net_arch: Widths of the hidden layers of each of the two streams.
        activation_fn: Activation after each hidden layer.
        noisy: Whether the layers are noisy.
        normalization: "none", "layer" or "batch": of the hidden layers.

    Source: Wang et al., ICML 2016 (arXiv 1511.06581), equation 9.
    """

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        net_arch: Sequence[int] = (),
        activation_fn: type[nn.Module] = nn.ReLU,
        *,
        noisy: bool = False,
        normalization: NormalizationName = "none",
    ) -> None:
        super().__init__(
            features_dim,
            n_actions,
            1,
            net_arch,
            activation_fn,
            dueling=True,
            noisy=noisy,
            normalization=normalization,
        )

    def outputs(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Maps (batch, features) to Q-values, (batch, actions)."""
        return self.forward(features)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, features) to Q-values, (batch, actions)."""
        return super().forward(features).squeeze(-1)

    def q_values(self, outputs: Tensor) -> Tensor:
        """Returns the outputs, which are Q-values."""
        return outputs


def linear_head(*shape: Any, dueling: bool = False, **kwargs: Any) -> nn.Module:
    """Makes a `LinearHead`, or where it has two streams a `DuelingHead`."""
    return (DuelingHead if dueling else LinearHead)(*shape, **kwargs)
