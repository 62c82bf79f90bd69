"""Heads: from features to what a network puts out for every action, and from that to Q-values.

`outputs` is what a loss needs: Q-values themselves, logits of return atoms, or quantiles of the
return. `q_values` turns it into the Q-values one acts by.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sndqn.errors import ConfigError
from sndqn.files.fields import MAX_SIZE, number, whole
from sndqn.networks.noisy import NoisyLinear
from sndqn.networks.parts import Part, check_name

HeadName = str  # one in HEADS
MakeLinear = Callable[[int, int], nn.Linear]


class _Layers(nn.Sequential):
    """Hidden layers and an output layer."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        hidden: Sequence[int],
        activation_fn: type[nn.Module],
        make_linear: MakeLinear,
    ) -> None:
        widths = [n_in, *hidden]
        layers: list[nn.Module] = []
        for n_from, n_to in itertools.pairwise(widths):
            layers += [make_linear(n_from, n_to), activation_fn()]
        super().__init__(*layers, make_linear(widths[-1], n_out))


class LinearHead(_Layers):
    """Hidden layers and one Q-value per action.

    Args:
        features_dim: Length of the features.
        n_actions: Number of actions.
        net_arch: Widths of the hidden layers.
        activation_fn: Activation after each of them.
        noisy: Whether the layers are noisy.
    """

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        net_arch: Sequence[int] = (),
        activation_fn: type[nn.Module] = nn.ReLU,
        *,
        noisy: bool = False,
    ) -> None:
        super().__init__(features_dim, n_actions, net_arch, activation_fn, _linear(noisy))

    def outputs(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Maps (batch, features) to Q-values, (batch, actions)."""
        q_values: Tensor = self(features)
        return q_values

    def q_values(self, outputs: Tensor) -> Tensor:
        """Gives the outputs, which are Q-values."""
        return outputs


class _Streams(nn.Module):
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
    ) -> None:
        super().__init__()
        self.n_actions, self.n, self.dueling = n_actions, n, dueling

        def layers(n_out: int) -> _Layers:
            return _Layers(features_dim, n_out, net_arch, activation_fn, _linear(noisy))

        if dueling:
            self.streams = _Streams(value=layers(n), advantage=layers(n_actions * n))
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


class DuelingHead(ActionOutputs):
    """Q(s, a) = V(s) + A(s, a) - mean over a' of A(s, a').

    Args:
        features_dim: Length of the features.
        n_actions: Number of actions.
        net_arch: Widths of the hidden layers of each of the two streams.
        activation_fn: Activation after each hidden layer.
        noisy: Whether the layers are noisy.

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
    ) -> None:
        super().__init__(
            features_dim, n_actions, 1, net_arch, activation_fn, dueling=True, noisy=noisy
        )

    def outputs(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Maps (batch, features) to Q-values, (batch, actions)."""
        return self.forward(features)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, features) to Q-values, (batch, actions)."""
        return super().forward(features).squeeze(-1)

    def q_values(self, outputs: Tensor) -> Tensor:
        """Gives the outputs, which are Q-values."""
        return outputs


class _DistributionHead(nn.Module):
    """A head whose outputs describe a distribution of returns for every action."""

    def outputs(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def q_values(self, outputs: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, features) to Q-values, (batch, actions)."""
        return self.q_values(self.outputs(features))


class CategoricalHead(_DistributionHead):
    """Probabilities of fixed returns, the atoms, for every action.

    Args:
        features_dim: Length of the features.
        n_actions: Number of actions.
        net_arch: Widths of the hidden layers.
        activation_fn: Activation after each of them.
        n_atoms: Number of atoms, 51 as in C51.
        v_min: The lowest atom.
        v_max: The highest.
        **kwargs: `dueling` and `noisy`, as for `ActionOutputs`.

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
        **kwargs: bool,
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
        """Gives the mean return of each action, (batch, actions)."""
        return outputs.softmax(dim=-1) @ self.support


class QuantileHead(_DistributionHead):
    """The quantiles of the return at (i + ½) / n, for every action.

    Args:
        features_dim: Length of the features.
        n_actions: Number of actions.
        net_arch: Widths of the hidden layers.
        activation_fn: Activation after each of them.
        n_quantiles: How many, 200 as in QR-DQN.
        **kwargs: `dueling` and `noisy`, as for `ActionOutputs`.

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
        **kwargs: bool,
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
        """Gives the mean over the quantiles, (batch, actions)."""
        return outputs.mean(dim=-1)


class ImplicitQuantileHead(_DistributionHead):
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
        **kwargs: `dueling` and `noisy`, as for `ActionOutputs`; the embedding is never noisy.

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
        **kwargs: bool,
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
        """Gives the mean over the quantiles, (batch, actions)."""
        return outputs.mean(dim=-1)


def midpoints(n: int) -> Tensor:
    """Gives the middles of n equal parts of [0, 1], shape (n,)."""
    return (torch.arange(n, dtype=torch.float32) + 0.5) / n


def _linear(noisy: bool) -> MakeLinear:
    return NoisyLinear if noisy else nn.Linear


def _linear_head(*shape: Any, dueling: bool = False, noisy: bool = False) -> nn.Module:
    return (DuelingHead if dueling else LinearHead)(*shape, noisy=noisy)


_RETURN = number(-1e30, 1e30)
HEADS: dict[str, Part] = {
    "linear": Part(_linear_head, {}),
    "categorical": Part(
        CategoricalHead, {"n_atoms": whole(2, MAX_SIZE), "v_min": _RETURN, "v_max": _RETURN}
    ),
    "quantile": Part(QuantileHead, {"n_quantiles": whole(1, MAX_SIZE)}),
    "implicit_quantile": Part(
        ImplicitQuantileHead,
        {"n_cosines": whole(1, MAX_SIZE), "n_acting_quantiles": whole(1, MAX_SIZE)},
    ),
}


def make_head(
    head: HeadName,
    features_dim: int,
    n_actions: int,
    net_arch: Sequence[int] = (),
    activation_fn: type[nn.Module] = nn.ReLU,
    *,
    dueling: bool = False,
    noisy: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Makes a head by its name.

    Args:
        head: A name in `HEADS`: "linear", "categorical", "quantile" or "implicit_quantile".
        features_dim: Length of the features.
        n_actions: Number of actions.
        net_arch: Widths of the hidden layers.
        activation_fn: Activation after each of them.
        dueling: Whether value and advantages have streams of their own.
        noisy: Whether the layers are noisy.
        **kwargs: The head's own: `n_atoms`, `v_min`, `v_max`; `n_quantiles`; `n_cosines`,
            `n_acting_quantiles`.

    Raises:
        ConfigError: There is no such head, or a number is out of range.
    """
    check_name("head", head, HEADS)
    shape = (features_dim, n_actions, net_arch, activation_fn)
    return HEADS[head].make(*shape, dueling=dueling, noisy=noisy, **kwargs)
