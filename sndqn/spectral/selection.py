"""Which layers to normalise: "-2", "-2,-3", "all", "none", "convs", names and words of them.

Weight layers, Linear and Conv2d, are counted over the whole network in forward order: -1 is the
output, -2 the layer before it, as in the SN-DQN paper. Layers that run side by side, like the
streams of a dueling head, share their index.

A word that stands between the dots of names means all layers that bear it: "residual" the
convolutions in the residual blocks of `sndqn.networks.torsos.ImpalaCNN`, wherever they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from sndqn.errors import SelectionError

Selection = str | int | Sequence[int | str]


@dataclass(frozen=True)
class WeightLayer:
    """A Linear or Conv2d of a network.

    Attributes:
        name: Dotted name in the network.
        layer: The module.
        index: Negative position in forward order; -1 is the output.
    """

    name: str
    layer: nn.Linear | nn.Conv2d
    index: int


def weight_layers(network: nn.Module) -> list[WeightLayer]:
    """Lists a network's weight layers in forward order.

    Children count in the order they were registered. A module whose class has a true attribute
    `parallel` runs its children side by side: they are counted together, from their ends.
    """
    positions = _positions(network, "")
    return [
        WeightLayer(name, layer, index - len(positions))
        for index, position in enumerate(positions)
        for name, layer in position
    ]


_Position = list[tuple[str, nn.Linear | nn.Conv2d]]


def _positions(module: nn.Module, name: str) -> list[_Position]:
    if isinstance(module, nn.Linear | nn.Conv2d):
        return [[(name, module)]]
    prefix = f"{name}." if name else ""
    branches = [_positions(child, prefix + key) for key, child in module.named_children()]
    if not getattr(module, "parallel", False):
        return [position for branch in branches for position in branch]
    depth = max(map(len, branches), default=0)
    aligned: list[list[_Position]] = [[[]] * (depth - len(branch)) + branch for branch in branches]
    return [[layer for branch in aligned for layer in branch[i]] for i in range(depth)]


def parse_selection(selection: Selection, setting: str = "sn_layers") -> list[int | str]:
    """Reads a selection into its parts, integers and words, without looking at a network.

    Args:
        selection: The selection.
        setting: What messages call it.

    Raises:
        SelectionError: It is empty, or not made of integers and words.
    """
    if isinstance(selection, str):
        parts: list[int | str] = [part.strip() for part in selection.split(",")]
    elif isinstance(selection, int):
        parts = [selection]
    elif isinstance(selection, Sequence):
        parts = list(selection)
    else:
        raise _not_a_selection(selection, setting)
    result = [_parse_part(part, selection, setting) for part in parts]
    if not result:
        return ["none"]
    if len(result) > 1 and "none" in result:
        raise SelectionError(f'{setting}: "none" stands alone, found {selection!r}')
    return result


def _parse_part(part: object, selection: Selection, setting: str) -> int | str:
    if isinstance(part, int) and not isinstance(part, bool):
        return part
    if isinstance(part, str) and part:
        try:
            return int(part)
        except ValueError:
            return part
    raise _not_a_selection(selection, setting)


def _not_a_selection(selection: object, setting: str) -> SelectionError:
    return SelectionError(
        f'{setting}: expected "-2", "-2,-3", "all", "none", "convs" or layer names, '
        f"found {selection!r}"
    )


def format_selection(selection: Selection) -> str:
    """Writes a selection as one canonical string, "-2,-3" for [-2, -3]."""
    return ",".join(str(part) for part in parse_selection(selection))


def select_layers(
    network: nn.Module, selection: Selection, setting: str = "sn_layers"
) -> list[WeightLayer]:
    """Finds the layers a selection means in a network, in forward order.

    Args:
        network: Any module.
        selection: "all", "none", "convs", an index such as -2, a dotted layer name, the dotted
            name of a part of the network (all its layers), one word between the dots of names
            (all layers whose names have it), or several: "-2,-3", [-2, "q_net.0", "residual"].
        setting: What messages call the selection.

    Raises:
        SelectionError: A part means no layer; the message lists those there are.
    """
    layers = weight_layers(network)
    chosen: set[str] = set()
    for part in parse_selection(selection, setting):
        if part == "none":
            continue
        found = [entry.name for entry in layers if _means(part, entry, layers)]
        if not found:
            there_are = ", ".join(f"{entry.index}: {entry.name}" for entry in layers)
            raise SelectionError(
                f"{setting}: no layer {str(part)!r} in this network. Its layers: {there_are}.\n"
                'Type indices, names, words between their dots, "all", "none" or "convs", '
                "as in --sn-layers -2,-3"
            )
        chosen.update(found)
    return [entry for entry in layers if entry.name in chosen]


def _means(part: int | str, entry: WeightLayer, layers: list[WeightLayer]) -> bool:
    if isinstance(part, int):
        return entry.index == (part if part < 0 else part + layers[0].index)
    if part == "all":
        return True
    if part == "convs":
        return isinstance(entry.layer, nn.Conv2d)
    return f"{entry.name}.".startswith(f"{part}.") or part in entry.name.split(".")
