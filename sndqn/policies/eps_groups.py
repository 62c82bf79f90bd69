"""An optimiser's ε by layer: groups of parameters, each with its own."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sndqn.errors import ConfigError
from sndqn.spectral import select_layers

_SETTING = "optimizer_eps_layers"


def groups_by_eps(
    network: nn.Module, optimizer: torch.optim.Optimizer, eps_layers: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Divides a network's parameters into groups for an optimiser like this one.

    Args:
        network: The network.
        optimizer: One of its kind, whose ε the first group keeps: all that no selection means.
        eps_layers: ε by selections of weight layers, see `sndqn.spectral.select_layers`.

    Raises:
        SelectionError: A selection means no layer.
        ConfigError: Two mean the same layer, an ε is not above 0, or the optimiser has none.
    """
    if "eps" not in optimizer.defaults:
        raise ConfigError(
            f"{_SETTING}: expected an optimiser with an ε, found {type(optimizer).__name__}: use "
            "Adam or RMSprop"
        )
    groups: list[dict[str, Any]] = []
    chosen: dict[int, str] = {}
    for selection, eps in eps_layers.items():
        if not eps > 0:
            raise ConfigError(f"{_SETTING} {selection}: expected a number above 0, found {eps}")
        parameters: list[nn.Parameter] = []
        for entry in select_layers(network, selection, _SETTING):
            own = list(entry.layer.parameters())
            other = next((chosen[id(p)] for p in own if id(p) in chosen), None)
            if other is not None:
                raise ConfigError(
                    f"{_SETTING}: expected each layer once, found {entry.name} in {other!r} and in "
                    f"{selection!r}: leave it out of one"
                )
            chosen |= dict.fromkeys(map(id, own), selection)
            parameters += own
        if parameters:
            groups.append({"params": parameters, "eps": eps})
    rest = [p for p in network.parameters() if id(p) not in chosen]
    return [{"params": rest}, *groups] if rest else groups
