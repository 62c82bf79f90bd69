"""Two tasks on one torso, the loss of one far larger: does SN on the heads help the other?

    python examples/task_heads.py

Supervised, on scikit-learn's digits: which digit it is, and how wide its ink spreads, a target that
is scaled. In reinforcement learning: CartPole, and CartPole with a longer pole and larger rewards,
by `sndqn.train("A,B")`. Found: docs/examples/task-heads.md.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import common
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import sndqn
from sndqn.spectral import spectral_norm

SCALES = [1, 10, 100]
ARMS = ["plain", "SN on the heads", "losses weighted", "alone"]
GAMES = {
    "plain, equal rewards": (1, "none"),
    "plain": (100, "none"),
    "SN on the heads": (100, "-1"),
}
STEPS, TIMESTEPS, BATCH = 600, 20_000, 64


def spread(images: Tensor) -> Tensor:
    """Returns the standard deviation of the ink's column, for images (n, 64)."""
    column = torch.arange(8.0)
    share = images.view(-1, 8, 8).sum(dim=1)
    share = share / share.sum(dim=1, keepdim=True)
    centre = (share * column).sum(dim=1, keepdim=True)
    return (share * (column - centre) ** 2).sum(dim=1).sqrt()


def learn_digits(arm: str, scale: int, seed: int, steps: int) -> common.Run:
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
        sum(losses[:1] if arm == "alone" else losses).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        features = torso(test_images)
        accuracy = (heads[0](features).argmax(dim=1) == test_classes).float().mean()
        error = mse_loss(heads[1](features)[:, 0], test_target) / test_target.var()
    run = {"setting": "digits", "arm": arm, "scale": scale, "seed": seed}
    values = {"small": accuracy, "large": 1 - error, "share": share}
    return run | {name: round(float(value), 4) for name, value in values.items()}


def learn_to_balance(arm: str, seed: int, timesteps: int) -> common.Run:
    """Trains both CartPoles on one torso by squared TD errors; returns the poles' steps upright."""
    scale, layers = GAMES[arm]
    other = common.register_cartpole(f"LongCartPole{scale}-v0", length=1.0, reward=scale)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"sn_layers": layers, "seed": seed, "total_timesteps": timesteps}
        run = sndqn.train(
            f"CartPole-v1,{other}", runs_dir=folder, verbose=False, **common.CARTPOLE, **settings
        )
        small, large = (run.tasks[name].evaluation.mean for name in ("CartPole-v1", other))
    values = {"small": small, "large": large / scale}
    return {"setting": "CartPole", "arm": arm, "scale": scale, "seed": seed, **values}


def measure(seeds: int, length: float) -> Iterator[common.Run]:
    """Trains every arm, on digits at every scale."""
    for seed in range(seeds):
        for scale in SCALES:
            for arm in ARMS[:2] + ARMS[3:] if scale == 1 else ARMS[:3]:
                yield learn_digits(arm, scale, seed, max(2, int(STEPS * length)))
    for seed in range(seeds):
        for arm in GAMES:
            yield learn_to_balance(arm, seed, max(400, int(TIMESTEPS * length)))


def tables(runs: list[common.Run]) -> str:
    """Writes both tasks' scores, and what each arm gains over the plain one on the small task."""
    digits = [run for run in runs if run["setting"] == "digits"]
    games = [run for run in runs if run["setting"] == "CartPole"]
    rows, played = [], []
    for scale in SCALES:
        arms = [arm for arm in ARMS if common.of(digits, "small", arm=arm, scale=scale)]
        more = common.gains(digits, "small", arms[1:], "plain", 3, scale=scale)
        for arm in arms:
            where = {"arm": arm, "scale": scale}
            three = [
                common.interval(common.of(digits, value, **where), 3)
                for value in ("small", "large", "share")
            ]
            three = [three[0], "", ""] if arm == "alone" else three
            rows.append([str(scale), arm, three[0], more.get(arm, ""), *three[1:]])
    more = common.gains(games, "small", [a for a in GAMES if a != "plain"], "plain", 0)
    for arm in GAMES:
        both = [common.interval(common.of(games, v, arm=arm), 0) for v in ("small", "large")]
        played.append([arm, both[0], more.get(arm, ""), both[1]])
    heading = [
        "scale",
        "",
        "accuracy",
        "over plain",
        "R² of the spread",
        "class's share of gradient",
    ]
    heading2 = ["", "CartPole, reward 1", "over plain", "longer pole"]
    return common.table(heading, rows) + "\n\n" + common.table(heading2, played)


def draw(runs: list[common.Run], path: Path) -> None:
    """Draws each seed's scores, by scale and arm."""
    figure, axes = common.canvas(1, 3, (11, 3.6))
    for panel, value, title in (
        (0, "small", "accuracy of the class"),
        (1, "large", "R² of the spread"),
    ):
        for i, arm in enumerate(ARMS[:3]):
            at = [s * 1.12 ** (i - 1) for s in SCALES]
            common.points(
                axes[0, panel],
                at,
                [common.of(runs, value, setting="digits", arm=arm, scale=s) for s in SCALES],
                i,
                arm,
            )
        axes[0, panel].set(xscale="log", xlabel="scale of the spread", title=title)
    for i, value in enumerate(("small", "large")):
        scores = [common.of(runs, value, setting="CartPole", arm=arm) for arm in GAMES]
        label = "CartPole, reward 1" if value == "small" else "longer pole"
        common.points(axes[0, 2], [k + 0.15 * i for k in range(3)], scores, 3 * i, label)
    names = ["plain,\nequal rewards", "plain,\n100 times", "SN on heads,\n100 times"]
    axes[0, 2].set(xticks=range(3), xticklabels=names, title="steps upright, two CartPoles")
    for panel in (0, 2):
        axes[0, panel].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    summary = (__doc__ or "").splitlines()[0]
    common.Example("task-heads", summary, measure, tables, draw).main()
