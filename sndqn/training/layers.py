"""layers.json: the norm of every layer before a training and after it."""

import json
from dataclasses import asdict

from sndqn.diagnostics import LayerNorm
from sndqn.files import write_json
from sndqn.runs.folder import RunFolder


def write_layers(run: RunFolder, **norms: list[LayerNorm]) -> None:
    """Adds norms to a run's table, `before` or `after`; `before` begins a new table."""
    table = {} if "before" in norms else json.loads(run.layers.read_text())
    table |= {when: [asdict(row) for row in rows] for when, rows in norms.items()}
    write_json(run.layers, table)


def read_layers(run: RunFolder) -> dict[str, list[LayerNorm]]:
    """Reads a run's table of norms before and, if it ended, after training."""
    return {
        when: [LayerNorm(**{**row, "shape": tuple(row["shape"])}) for row in rows]
        for when, rows in json.loads(run.layers.read_text()).items()
    }
