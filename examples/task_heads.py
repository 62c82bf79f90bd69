"""Two tasks on one torso, the loss of one far larger: does SN on the heads help the other?

    python examples/task_heads.py

On scikit-learn's digits: which digit it is, and how wide its ink spreads, a target that is scaled.
The same in reinforcement learning: examples/task_heads_rl.py. Found: docs/examples/task-heads.md.
"""

from collections.abc import Iterator
from pathlib import Path

import common
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from sndqn.spectral import spectral_norm

SCALES = [1, 10, 100]
ARMS = ["plain", "SN on the heads", "losses weighted", "class alone"]
STEPS, BATCH = 400, 64


def spread(images: Tensor) -> Tensor:
    """Returns the standard deviation of the ink's column, for images (n, 64)."""
    column = torch.arange(8.0)
    share = images.view(-1, 8, 8).sum(dim=1)
    share = share / share.sum(dim=1, keepdim=True)
    centre = (share * column).sum(dim=1, keepdim=True)
    return (share * (column - centre) ** 2).sum(dim=1).sqrt()


def learn(arm: str, scale: int, seed: int, steps: int) -> common.Run:
    """Trains both tasks on one torso, or each alone, and measures them on held-out digits."""
    images, classes, test_images, test_classes = common.digits()
    mean, std = spread(images).mean(), spread(images).std()
    target, test_target = (scale * (spread(x) - mean) / std for x in (images, test_images))
    torch.manual_seed(seed)
    torso = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    heads = [nn.Linear(64, 10), nn.Linear(64, 1)]
    if arm == "SN on the heads":
        heads = [spectral_norm(head) for head in heads]
    network = nn.ModuleList([torso, *heads])
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    weight = scale**-2 if arm == "losses weighted" else 1
    share = 0.0
    for _ in range(steps):
        batch = torch.randint(len(images), (BATCH,))
        features = torso(images[batch])
        losses = (
            cross_entropy(heads[0](features), classes[batch]),
            weight * mse_loss(heads[1](features)[:, 0], target[batch]),
        )
        sizes = [torch.autograd.grad(x, features, retain_graph=True)[0].norm() for x in losses]
        share += float(sizes[0] / (sizes[0] + sizes[1])) / steps
        optimizer.zero_grad()
        sum(losses[:1] if arm == "class alone" else losses).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        features = torso(test_images)
        accuracy = (heads[0](features).argmax(dim=1) == test_classes).float().mean()
        error = mse_loss(heads[1](features)[:, 0], test_target) / test_target.var()
    run = {"arm": arm, "scale": scale, "seed": seed}
    values = {"class": accuracy, "spread": 1 - error, "share": share}
    return run | {name: round(float(value), 4) for name, value in values.items()}


def measure(seeds: int, length: float) -> Iterator[common.Run]:
    """Trains every arm, on digits at every scale."""
    for seed in range(seeds):
        for scale in SCALES:
            for arm in ARMS[:2] + ARMS[3:] if scale == 1 else ARMS[:3]:
                yield learn(arm, scale, seed, max(2, int(STEPS * length)))


def tables(runs: list[common.Run]) -> str:
    """Writes both tasks' scores, and what each arm gains over the plain one on the class."""
    rows = []
    for scale in SCALES:
        arms = [arm for arm in ARMS if common.of(runs, "class", arm=arm, scale=scale)]
        more = common.gains(runs, "class", arms[1:], "plain", 3, scale=scale)
        for arm in arms:
            accuracy, *others = (
                common.interval(common.of(runs, value, arm=arm, scale=scale), 3)
                for value in ("class", "spread", "share")
            )
            others = ["", ""] if arm == "class alone" else others
            rows.append([str(scale), arm, accuracy, more.get(arm, ""), *others])
    heading = ["scale", "", "accuracy of the class", "over plain", "R² of the spread"]
    return common.table([*heading, "the class's share of the gradient"], rows)


def draw(runs: list[common.Run], path: Path) -> None:
    """Draws each seed's scores, by scale and arm."""
    figure, axes = common.canvas(1, 2, (10, 3.8))
    panels = {"class": "accuracy of the class", "spread": "R² of the spread"}
    for panel, (value, title) in zip(axes[0], panels.items(), strict=True):
        for i, arm in enumerate(ARMS[:3]):
            scales = [s for s in SCALES if common.of(runs, value, arm=arm, scale=s)]
            scores = [common.of(runs, value, arm=arm, scale=s) for s in scales]
            common.points(panel, [s * 1.1 ** (i - 1) for s in scales], scores, i, arm)
        panel.set(xscale="log", xlabel="scale of the spread", title=title)
        panel.set_xticks(SCALES, [str(scale) for scale in SCALES], minor=False)
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


EXAMPLE = common.Example("task-heads", (__doc__ or "").splitlines()[0], measure, tables, draw)
if __name__ == "__main__":
    EXAMPLE.main()
