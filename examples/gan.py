"""A GAN with SN on its discriminator, its generator, both, or neither, on scikit-learn's digits.

    python examples/gan.py

Measured at two learning rates, ten times in each training: the Fréchet distance between generated
and held-out digits in the features of a classifier (as FID does with Inception's: Heusel et al.
2017), and how many of the ten digits are generated at all. Found: docs/examples/gan.md.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import numpy as np
import torch
from judge import Judge
from torch import nn
from torch.nn.functional import softplus

from sndqn.spectral import spectral_norm
from sndqn.study.curves import collapsed

ARMS = {"neither": "", "discriminator": "D", "generator": "G", "both": "DG"}
RATES = [2e-3, 2e-2]
STEPS, EVALUATIONS, NOISE, BATCH = 800, 10, 32, 64


def mlp(
    sizes: list[int], activation: Callable[[], nn.Module], sn: bool, norm: bool
) -> nn.Sequential:
    """Makes layers; all but the last have an activation, and batch normalisation if asked for."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        linear = nn.Linear(n_in, n_out)
        layers += [spectral_norm(linear) if sn else linear]
        layers += [nn.BatchNorm1d(n_out), activation()] if norm else [activation()]
    return nn.Sequential(*layers[: -2 if norm else -1])


def train(judge: Judge, arm: str, rate: float, seed: int, steps: int) -> common.Run:
    """Trains a GAN by the non-saturating loss (Goodfellow et al. 2014), judged on the way."""
    images = common.digits()[0] * 2 - 1
    torch.manual_seed(seed)
    generator = mlp([NOISE, 128, 128, 64], nn.ReLU, sn="G" in ARMS[arm], norm=True).append(
        nn.Tanh()
    )
    discriminator = mlp([64, 64, 64, 1], lambda: nn.LeakyReLU(0.2), sn="D" in ARMS[arm], norm=False)
    adams = [
        torch.optim.Adam(net.parameters(), rate, betas=(0.5, 0.999), fused=True)
        for net in (generator, discriminator)
    ]
    judged = []
    for step in range(1, steps + 1):
        real = images[torch.randint(len(images), (BATCH,))]
        fake = generator(torch.randn(BATCH, NOISE))
        of_real, of_fake = discriminator(torch.cat([real, fake.detach()])).split(BATCH)
        adams[1].zero_grad()
        (softplus(-of_real).mean() + softplus(of_fake).mean()).backward()
        adams[1].step()
        adams[0].zero_grad()
        softplus(-discriminator(fake)).mean().backward()
        adams[0].step()
        if step % (steps // EVALUATIONS) == 0:
            with torch.no_grad():
                made = generator.eval()(torch.randn(len(images), NOISE))
            judged.append(judge(made))
            generator.train()
    distances, classes = map(list, zip(*judged, strict=True))
    run = {
        "arm": arm,
        "rate": rate,
        "seed": seed,
        "distance": distances[-1],
        "best": min(distances),
    }
    samples = ((made[:10] + 1) * 8).round().int().tolist() if seed == 0 else []
    return run | {"classes": classes[-1], "distances": distances, "samples": samples}


def measure(seeds: int, length: float) -> Iterator[common.Run]:
    """Trains every arm at every learning rate."""
    judge, steps = Judge(), max(EVALUATIONS, int(STEPS * length))
    real = judge(common.digits()[0] * 2 - 1)[0]
    for seed in range(seeds):
        for rate in RATES:
            for arm in ARMS:
                yield train(judge, arm, rate, seed, steps) | {"steps": steps, "real": real}


def tables(runs: list[common.Run]) -> str:
    """Writes where runs end, and how far above those without SN."""
    rows = []
    for rate in RATES:
        more = common.gains(
            runs, "distance", [arm for arm in ARMS if ARMS[arm]], "neither", 0, rate=rate
        )
        for arm in ARMS:
            where = {"rate": rate, "arm": arm}
            ends = common.of(runs, "distance", **where)
            close, closest = (
                [1 / d for d in of] for of in (ends, common.of(runs, "best", **where))
            )
            lost = common.written(collapsed({"": close}, {"": closest}), 1)
            classes = common.interval(common.of(runs, "classes", **where), 1)
            rows.append(
                [f"{rate:g}", arm, common.interval(ends, 0), more.get(arm, ""), classes, lost]
            )
    heading = [
        "learning rate",
        "SN on",
        "distance at the end",
        "above neither's",
        "classes",
        "lost",
    ]
    return common.table(heading, rows)


def draw(runs: list[common.Run], path: Path) -> None:
    """Draws the distance over training, and ten digits of each arm's first seed."""
    figure, axes = common.canvas(2, len(RATES), (11, 5.2))
    for column, rate in enumerate(RATES):
        above, below = axes[:, column]
        for i, arm in enumerate(ARMS):
            seeds = common.of(runs, "distances", arm=arm, rate=rate)
            at = np.linspace(0, runs[0]["steps"], len(seeds[0]) + 1)[1:]
            common.curves(above, at, seeds, i, arm)
        above.axhline(runs[0]["real"], color="gray", lw=1, ls=":")
        above.set(yscale="log", xlabel="steps", title=f"learning rate {rate:g}", ylim=(2, 2000))
        made = [common.of(runs, "samples", arm=arm, rate=rate, seed=0)[0] for arm in ARMS]
        tiles = np.array(made).reshape(len(ARMS), 10, 8, 8)
        tiles = np.pad(tiles, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=16)
        below.imshow(tiles.transpose(0, 2, 1, 3).reshape(len(ARMS) * 10, 100), cmap="gray")
        below.grid(False)
        below.set(xticks=[], yticks=range(5, len(ARMS) * 10, 10), yticklabels=list(ARMS))
    axes[0, 0].set_ylabel("Fréchet distance")
    axes[0, 0].legend(title="SN on", frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


EXAMPLE = common.Example("gan", (__doc__ or "").splitlines()[0], measure, tables, draw)
if __name__ == "__main__":
    EXAMPLE.main()
