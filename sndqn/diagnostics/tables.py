"""What a network's layers are, for people: a sentence and a table."""

from rich import box
from rich.table import Table
from torch import nn

from sndqn.diagnostics import LayerNorm, certified_bound
from sndqn.networks import SpectralSettings
from sndqn.spectral import SpectralLayer, select_layers, weight_layers


def spectral_sentence(network: nn.Module, settings: SpectralSettings) -> str:
    """Returns which layers of a network are normalised, and to what."""
    chosen = [
        f"{entry.index} ({entry.name})"
        for entry in weight_layers(network)
        if isinstance(entry.layer, SpectralLayer)
    ]
    if settings.mode == "init" and settings.layers != "none":
        scaled = [f"{e.index} ({e.name})" for e in select_layers(network, settings.layers)]
        return (
            f"Initial weights of {_layers(scaled)} are scaled to σ {settings.bound:g}; none is held"
        )
    if not chosen:
        return "No layer is normalised (--sn-layers none)"
    bound = "the σ it starts with" if settings.bound == "initial" else f"{settings.bound:g}"
    held = {
        "normalize": f"σ is held at {bound}",
        "shrink": f"σ is held at or below {bound}",
        "track": "σ is followed, and nothing normalised",
    }[settings.mode]
    steered = "" if settings.scheduler == "none" else f", and steers {settings.scheduler}"
    return f"SN on {_layers(chosen)}: {held}{steered}"


def _layers(names: list[str]) -> str:
    return f"layer{'s' if len(names) > 1 else ''} {', '.join(names)}"


def layer_table(network: nn.Module, rows: list[LayerNorm]) -> Table:
    """Lays out a network's layers: shapes, σ, which are normalised, and what follows.

    Args:
        network: A Q-network.
        rows: Its `sndqn.diagnostics.layer_norms`.
    """
    bound = certified_bound(network, {row.name: row.effective for row in rows})
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("index", justify="right")
    table.add_column("layer", overflow="fold")
    table.add_column("weight", no_wrap=True)
    table.add_column("σ(W)", justify="right")
    table.add_column("acts with", justify="right")
    table.add_column("normalised")
    for row in rows:
        held = "" if row.bound is None else f"{row.mode} to {row.bound:g}"
        held = "only tracked" if row.mode == "track" else held
        shape = "x".join(map(str, row.shape))
        table.add_row(
            str(row.index),
            row.name,
            shape,
            f"{row.raw:.4f}",
            f"{row.effective:.4f}",
            held,
            style="bold" if held else None,
        )
    table.caption = (
        "of this network the norms bound no slope"
        if bound is None
        else f"no slope of Q is steeper than {bound:.4g}"
    )
    table.caption_justify = "left"
    return table
