"""Heads: from features to what a network puts out for every action, and from that to Q-values.

`outputs` is what a loss needs: Q-values themselves, logits of return atoms, or quantiles of the
return. `q_values` turns it into the Q-values one acts by. A new head is a class with these two
methods, and an entry in `HEADS`.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from sndqn.files.fields import MAX_SIZE, number, whole
from sndqn.networks.heads.categorical import CategoricalHead
from sndqn.networks.heads.implicit_quantile import ImplicitQuantileHead
from sndqn.networks.heads.layers import ActionOutputs, midpoints
from sndqn.networks.heads.linear import DuelingHead, LinearHead, linear_head
from sndqn.networks.heads.quantile import QuantileHead
from sndqn.networks.normalization import NormalizationName
from sndqn.networks.parts import Part, check_name

__all__ = [
    "HEADS",
    "ActionOutputs",
    "CategoricalHead",
    "DuelingHead",
    "HeadName",
    "ImplicitQuantileHead",
    "LinearHead",
    "QuantileHead",
    "make_head",
    "midpoints",
]

HeadName = str  # one in HEADS
_RETURN = number(-1e30, 1e30)
HEADS: dict[str, Part] = {
    "linear": Part(linear_head, {}),
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
    normalization: NormalizationName = "none",
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
        normalization: "none", "layer" or "batch": of the hidden layers, see
            `sndqn.networks.normalization`.
        **kwargs: The head's own: `n_atoms`, `v_min`, `v_max`; `n_quantiles`; `n_cosines`,
            `n_acting_quantiles`.

    Raises:
        ConfigError: There is no such head, or a number is out of range.
    """
    check_name("head", head, HEADS)
    shape = (features_dim, n_actions, net_arch, activation_fn)
    made_of = {"dueling": dueling, "noisy": noisy, "normalization": normalization}
    return HEADS[head].make(*shape, **made_of, **kwargs)
