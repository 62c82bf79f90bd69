"""Fine-tuning with every layer held under the norm it came with: is less forgotten?

    python examples/fine_tuning.py

A network that tells scikit-learn's digits 0 to 4 learns 5 to 9 with a new head, and is asked for
the first ones again, with the old head. Found: docs/examples/fine-tuning.md.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import common
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sndqn.spectral import normalize_layers, weight_layers

# The last one is no SN but the field's usual remedy, to show that the measure can move.
ARMS = ["plain", "shrink to initial norms", "pulled to initial weights"]
RATES = [1e-3, 5e-3]
STEPS, LOOKS, BATCH, PULL = 400, 10, 64, 0.01


def weights_of(network: nn.Module) -> list[Tensor]:
    """Returns the weights as they act."""
    layers = [entry.layer for entry in weight_layers(network)]
    return [getattr(x, "effective_weight", x.weight).detach().clone() for x in layers]


def fit(
    network: nn.Sequential, first: bool, rate: float, steps: int, pull: float = 0.0
) -> Iterator[int]:
    """Trains on digits below 5, or from 5 on; gives the step, LOOKS times.

    `pull` times the squared distance of the hidden layers from where they began is added to the
    loss: L2-SP (Li et al. 2018).
    """
    images, classes, *_ = common.digits()
    mine = (classes < 5) == first
    images, classes = images[mine], classes[mine] % 5
    start = [p.detach().clone() for p in network[:-1].parameters()]
    optimizer = torch.optim.Adam(network.parameters(), rate)
    for step in range(1, steps + 1):
        batch = torch.randint(len(images), (BATCH,))
        loss = cross_entropy(network(images[batch]), classes[batch])
        if pull:
            pairs = zip(network[:-1].parameters(), start, strict=True)
            loss = loss + pull * sum((p - s).square().sum() for p, s in pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % (steps // LOOKS) == 0:
            yield step


@torch.no_grad()
def accuracy(network: nn.Module, first: bool) -> float:
    """Returns the share of held-out digits that are told, below 5 or from 5 on."""
    *_, images, classes = common.digits()
    mine = (classes < 5) == first
    told = network.eval()(images[mine]).argmax(dim=1) == classes[mine] % 5
    network.train()
    return round(told.float().mean().item(), 4)


def tune(seed: int, steps: int) -> Iterator[common.Run]:
    """Learns digits below 5, then, from there, those from 5 on in every way."""
    torch.manual_seed(seed)
    hidden = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
    begun = nn.Sequential(*hidden, nn.Linear(64, 5))
    list(fit(begun, True, 1e-3, 2 * steps))
    for rate in RATES:
        for arm in ARMS:
            torch.manual_seed(1000 + seed)
            tuned = nn.Sequential(*copy.deepcopy(begun[:-1]), nn.Linear(64, 5))
            if arm == ARMS[1]:
                normalize_layers(tuned, ["0", "2"], bound="initial", mode="shrink")
            pull = PULL if arm == ARMS[2] else 0.0
            curve = [[accuracy(begun, True), accuracy(tuned, False)]]
            for _ in fit(tuned, False, rate, steps, pull):
                asked = nn.Sequential(*tuned[:-1], begun[-1])
                curve.append([accuracy(asked, True), accuracy(tuned, False)])
            yield {
                "arm": arm, "rate": rate, "seed": seed, "steps": steps,
                "before": curve[0][0], "first": curve[-1][0], "second": curve[-1][1],
                "curve": curve, **moved(begun[:-1], tuned[:-1]),
            }  # fmt: skip


def moved(before: nn.Module, after: nn.Module) -> dict[str, float]:
    """Returns the largest relative growth of a layer's σ, and drift of a weight."""
    pairs = list(zip(weights_of(before), weights_of(after), strict=True))
    norm = torch.linalg.matrix_norm
    growth = max(float(norm(new, 2) / norm(old, 2)) for old, new in pairs)
    drift = max(float((new - old).norm() / old.norm()) for old, new in pairs)
    return {"growth": round(growth, 4), "drift": round(drift, 4)}


def measure(seeds: int, length: float) -> Iterator[common.Run]:
    """Tunes every seed in every way."""
    for seed in range(seeds):
        yield from tune(seed, max(LOOKS, int(STEPS * length)))


def tables(runs: list[common.Run]) -> str:
    """Writes both tasks' scores after tuning, and what each arm keeps more than the plain one."""
    rows = []
    places = {"before": 3, "first": 3, "second": 3, "growth": 2, "drift": 2}
    for rate in RATES:
        more = common.gains(runs, "first", ARMS[1:], "plain", 3, rate=rate)
        for arm in ARMS:
            before, first, *others = (
                common.interval(common.of(runs, value, arm=arm, rate=rate), n)
                for value, n in places.items()
            )
            rows.append([f"{rate:g}", arm, before, first, more.get(arm, ""), *others])
    heading = ["learning rate", "", "0 to 4 before", "0 to 4 after", "over plain", "5 to 9 after"]
    return common.table([*heading, "σ, times", "drift"], rows)


def draw(runs: list[common.Run], path: Path) -> None:
    """Draws the accuracy on both halves of the digits over fine-tuning."""
    figure, axes = common.canvas(1, len(RATES), (10, 3.8))
    for panel, rate in zip(axes[0], RATES, strict=True):
        for i, arm in enumerate(ARMS):
            seeds = common.of(runs, "curve", arm=arm, rate=rate)
            at = [k * runs[0]["steps"] / LOOKS for k in range(len(seeds[0]))]
            common.curves(panel, at, [[first for first, _ in c] for c in seeds], i, arm)
        title = f"accuracy on digits 0 to 4, learning rate {rate:g}"
        panel.set(xlabel="steps on digits 5 to 9", title=title)
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


EXAMPLE = common.Example("fine-tuning", (__doc__ or "").splitlines()[0], measure, tables, draw)
if __name__ == "__main__":
    EXAMPLE.main()
