"""What the examples share: one command each, the digits, tables with intervals, figures.

An example measures runs, and keeps them in NAME.json; its tables and its figure are made of that
file alone.
"""

import argparse
import functools
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sndqn.study.bootstrap import Estimate, estimate
from sndqn.study.significance import holm, permutation_test
from sndqn.study.statistics import difference, mean

DOCS = Path(__file__).parent.parent / "docs" / "examples"
PACKAGES = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "scipy": "scipy"}
# Okabe and Ito's, and a dash each.
STYLES = [("#000000", "-"), ("#0072B2", "--"), ("#D55E00", "-."), ("#009E73", ":")]

Run = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """An example: how runs are measured, and what is made of them.

    Attributes:
        name: Of its files.
        summary: A sentence for the help.
        measure: Takes the number of seeds and a factor on every training's length; gives the runs.
        tables: Makes Markdown of runs.
        draw: Makes a figure of runs at a path.
    """

    name: str
    summary: str
    measure: Callable[[int, float], Iterable[Run]]
    tables: Callable[[list[Run]], str]
    draw: Callable[[list[Run], Path], None]

    def main(self, *arguments: str) -> None:
        """Is the example's command: takes the shell's arguments, or these."""
        parser = argparse.ArgumentParser(prog=self.script, description=self.summary)
        parser.add_argument("--seeds", type=int, default=5, help="trainings of each arm: 5")
        parser.add_argument("--length", type=float, default=1.0, help="factor on each training: 1")
        parser.add_argument("--output", type=Path, default=DOCS, help="folder: docs/examples")
        parser.add_argument("--draw", action="store_true", help="only draw its JSON again")
        typed = arguments or tuple(sys.argv[1:])
        given = parser.parse_args(typed)
        missing = [p for module, p in PACKAGES.items() if importlib.util.find_spec(module) is None]
        if missing:
            parser.exit(2, f'{self.script}: needs {missing[0]}: type pip install ".[examples]"\n')
        torch.set_num_threads(1)
        file = given.output / f"{self.name}.json"
        if not given.draw:
            given.output.mkdir(parents=True, exist_ok=True)
            runs = []
            for run in self.measure(given.seeds, given.length):
                runs.append(run)
                shown = {k: v for k, v in run.items() if isinstance(v, str | int | float)}
                print(shown, file=sys.stderr, flush=True)
            command = json.dumps(" ".join(["python", f"examples/{self.script}", *typed]))
            lines = ",\n".join(json.dumps(run) for run in runs)
            head = f'"command": {command}, "torch": "{torch.__version__}"'
            file.write_text(f'{{{head}, "runs": [\n{lines}\n]}}\n')
        runs = json.loads(file.read_text())["runs"]
        self.draw(runs, file.with_suffix(".png"))
        print(self.tables(runs))

    @property
    def script(self) -> str:
        """The name of its file."""
        return self.name.replace("-", "_") + ".py"


@functools.cache
def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns scikit-learn's digits, 8 x 8, from 0 to 1: 1297 to train on and 500 to test on.

    Returns:
        Images (n, 64) and classes to train on, images and classes to test on. The division is the
        same for every seed.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.data / 16, dtype=torch.float32)
    classes = torch.tensor(data.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, test = order[:1297], order[1297:]
    return images[train], classes[train], images[test], classes[test]


def of(runs: list[Run], value: str, **where: Any) -> list[float]:
    """Returns a number of all runs that have these settings, one a seed."""
    return [run[value] for run in runs if all(run[k] == v for k, v in where.items())]


def interval(scores: Sequence[float], digits: int = 2) -> str:
    """Writes the mean over seeds with its 95 % interval."""
    return written(estimate(mean, {"": scores}), digits)


def gains(
    runs: list[Run], value: str, arms: Sequence[str], base: str, digits: int = 2, **where: Any
) -> dict[str, str]:
    """Writes how far each arm's mean is above the base's, and p, by Holm over these arms."""
    scores = {arm: of(runs, value, arm=arm, **where) for arm in (base, *arms)}
    p = holm({arm: permutation_test(scores[arm], scores[base]).p for arm in arms})
    return {
        arm: written(difference({"": scores[arm]}, {"": scores[base]}, mean), digits, "+")
        + f", p {p[arm]:.2g}"
        for arm in arms
    }


def written(found: Estimate, digits: int, sign: str = "") -> str:
    """Writes an estimate as value [low, high]."""
    value = f"{found.value:{sign}.{digits}f}"
    if found.low is None or found.high is None:
        return value
    return f"{value} [{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def canvas(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """Makes a figure, drawn without a display, and its axes (rows, columns)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        rows, columns, figsize=size, squeeze=False, constrained_layout=True
    )
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25)
    return figure, axes


def curves(
    axes: Any, at: Sequence[float], seeds: Sequence[Sequence[float]], i: int, label: str
) -> None:
    """Draws the arm of number i: each seed thin, their mean thick."""
    colour, dash = STYLES[i]
    for one in seeds:
        axes.plot(at, one, color=colour, lw=0.7, alpha=0.35)
    axes.plot(at, np.mean(seeds, axis=0), color=colour, ls=dash, lw=2, label=label)


def points(
    axes: Any,
    at: Sequence[float],
    seeds: Sequence[Sequence[float]],
    i: int,
    label: str,
    joined: bool = True,
) -> None:
    """Draws the arm of number i: each seed a dot, their means bars, which a line may join."""
    colour, dash = STYLES[i]
    for x, scores in zip(at, seeds, strict=True):
        axes.plot([x] * len(scores), scores, "o", color=colour, ms=4, alpha=0.4)
    means = [np.mean(scores) for scores in seeds]
    axes.plot(
        at, means, color=colour, ls=dash if joined else "", marker="_", ms=14, mew=2, label=label
    )
