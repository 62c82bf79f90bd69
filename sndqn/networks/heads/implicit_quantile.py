"""The head of IQN: quantiles of the return at any fractions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sndqn.errors import ConfigError
from sndqn.networks.heads.layers import ActionOutputs, DistributionHead, midpoints


class ImplicitQuantileHead(DistributionHead):
    """The quantile of the return at any fraction τ, for every action.

    The features are multiplied by an embedding of τ, ReLU(Linear(cos(π i τ))) with i from 0, before
    the hidden layers. Weight layers count in the order embedding, hidden layers, output.

    Args:
        features_dim: Length of the features.
        n_actions: Number of actions.
        net_arch: Widths of the hidden layers.
        activation_fn: Activation after each of them.
        n_cosines: Size of the cosine basis.
        n_acting_quantiles: Fractions over which Q-values are the mean. They lie evenly, at
            (i + ½) / n; the paper draws them at random for each action.
        **kwargs: `dueling`, `noisy` and `normalization`, as for `ActionOutputs`; the embedding is
            never noisy nor normalised.

    Source: Dabney et al., ICML 2018 (arXiv 1806.06923), equation 4; 64 and 32 are theirs.
    """

    fractions: Tensor
    frequencies: Tensor

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        net_arch: Sequence[int] = (),
        activation_fn: type[nn.Module] = nn.ReLU,
        *,
        n_cosines: int = 64,
        n_acting_quantiles: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        for name, value in (("n_cosines", n_cosines), ("n_acting_quantiles", n_acting_quantiles)):
            if value < 1:
                raise ConfigError(f"{name}: expected 1 or more, found {value}")
        self.embedding = nn.Linear(n_cosines, features_dim)
        self.quantiles = ActionOutputs(
            features_dim, n_actions, 1, net_arch, activation_fn, **kwargs
        )
        self.register_buffer("fractions", midpoints(n_acting_quantiles), persistent=False)
        frequencies = torch.pi * torch.arange(n_cosines, dtype=torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def outputs(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Maps (batch, features), at fractions (batch, n), to quantiles (batch, actions, n)."""
        if fractions is None:
            fractions = self.fractions.expand(features.shape[0], -1)
        embedded = F.relu(self.embedding(torch.cos(fractions.unsqueeze(-1) * self.frequencies)))
        quantiles: Tensor = self.quantiles(features.unsqueeze(1) * embedded)
        return quantiles.squeeze(-1).transpose(1, 2)

    def q_values(self, outputs: Tensor) -> Tensor:
        """Returns the mean over the quantiles, (batch, actions)."""
        return outputs.mean(dim=-1)
