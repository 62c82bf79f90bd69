"""The table of a network's layers, for people."""

from rich import box
from rich.table import Table

from sndqn.diagnostics import LayerNorm, lipschitz_bound


def layer_table(rows: list[LayerNorm], title: str | None = None) -> Table:
    """Lays out a network's layers: shapes, σ, and which are normalised.

    Args:
        rows: From `sndqn.diagnostics.layer_norms`.
        title: A line above; None for none.
    """
    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0)
    )
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
    table.caption = f"product of the norms: {lipschitz_bound(rows):.4g}"
    table.caption_justify = "left"
    return table
