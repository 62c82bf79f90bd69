"""The head of QR-DQN: quantiles of the return at even fractions."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.networks.heads.layers import ActionOutputs, DistributionHead, midpoints


class QuantileHead(DistributionHead):
    """The quantiles of the return at (i + ½) / n, for every action.

    Args:
        features_dim: Length of the features.
        n_actions: Number of actions.
        net_arch: Widths of the hidden layers.
        activation_fn: Activation after each of them.
        n_quantiles: How many, 200 as in QR-DQN.
        **kwargs: `dueling`, `noisy` and `normalization`, as for `ActionOutputs`.

    Source: Dabney et al., AAAI 2018 (arXiv 1710.10044).
    """

    fractions: Tensor

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        net_arch: Sequence[int] = (),
        activation_fn: type[nn.Module] = nn.ReLU,
        *,
        n_quantiles: int = 200,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if n_quantiles < 1:
            raise ConfigError(f"n_quantiles: expected 1 or more, found {n_quantiles}")
        self.quantiles = ActionOutputs(
            features_dim, n_actions, n_quantiles, net_arch, activation_fn, **kwargs
        )
        self.register_buffer("fractions", midpoints(n_quantiles), persistent=False)

    def outputs(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Maps (batch, features) to quantiles, (batch, actions, quantiles)."""
        quantiles: Tensor = self.quantiles(features)
        return quantiles

    def q_values(self, outputs: Tensor) -> Tensor:
        """Returns the mean over the quantiles, (batch, actions)."""
        return outputs.mean(dim=-1)
