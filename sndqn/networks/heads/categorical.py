"""The head of C51: probabilities of fixed returns."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.networks.heads.layers import ActionOutputs, DistributionHead


class CategoricalHead(DistributionHead):
    """Probabilities of fixed returns, the atoms, for every action.

    Args:
        features_dim: Length of the features.
        n_actions: Number of actions.
        net_arch: Widths of the hidden layers.
        activation_fn: Activation after each of them.
        n_atoms: Number of atoms, 51 as in C51.
        v_min: The lowest atom.
        v_max: The highest.
        **kwargs: `dueling`, `noisy` and `normalization`, as for `ActionOutputs`.

    Source: Bellemare et al., ICML 2017 (arXiv 1707.06887).
    """

    support: Tensor

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        net_arch: Sequence[int] = (),
        activation_fn: type[nn.Module] = nn.ReLU,
        *,
        n_atoms: int = 51,
        v_min: float = -10.0,
        v_max: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if n_atoms < 2:
            raise ConfigError(f"n_atoms: expected 2 or more, found {n_atoms}")
        if not v_min < v_max:
            raise ConfigError(f"v_min: expected less than v_max ({v_max}), found {v_min}")
        self.logits = ActionOutputs(
            features_dim, n_actions, n_atoms, net_arch, activation_fn, **kwargs
        )
        # Settings, not learnt: they come with the network's description, not with its weights.
        self.register_buffer("support", torch.linspace(v_min, v_max, n_atoms), persistent=False)

    def outputs(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Maps (batch, features) to logits, (batch, actions, atoms)."""
        logits: Tensor = self.logits(features)
        return logits

    def q_values(self, outputs: Tensor) -> Tensor:
        """Returns the mean return of each action, (batch, actions)."""
        return outputs.softmax(dim=-1) @ self.support
