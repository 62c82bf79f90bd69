"""Fine-tuning with every layer held under the norm it came with: is less forgotten?

    python examples/fine_tuning.py

Supervised: a network that tells scikit-learn's digits 0 to 4 learns 5 to 9 with a new head. In
reinforcement learning: an agent of CartPole goes on with a pole four times as long. Both are then
asked for the first task again. Found: docs/examples/fine-tuning.md.
"""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path

import common
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import sndqn
from sndqn.envs import resolve_env
from sndqn.evaluation import EvaluationProtocol, evaluate
from sndqn.spectral import normalize_layers, weight_layers

# Of the digits; the last one is no SN but the field's remedy, which shows what can be had.
ARMS = ["plain", "shrink to initial norms", "pulled to initial weights"]
SN = {"plain": {"sn_layers": "none"}}
SN[ARMS[1]] = {"sn_layers": "all", "sn_bound": "initial", "sn_mode": "shrink"}
RATES = [1e-3, 5e-3]
STEPS, LOOKS, BATCH, PULL = 400, 10, 64, 0.01
TIMESTEPS = 12_000  # and half as many with the longer pole


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


def tune_digits(seed: int, length: float) -> Iterator[common.Run]:
    """Learns digits below 5, then, from there, those from 5 on in every way."""
    steps = max(LOOKS, int(STEPS * length))
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
                "task": "digits", "arm": arm, "rate": rate, "seed": seed, "steps": steps,
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


def tune_cartpole(seed: int, length: float) -> Iterator[common.Run]:
    """Learns CartPole, goes on with a longer pole in both ways, and plays CartPole again."""
    long = common.register_cartpole("LongCartPole-v0", length=2.0)
    protocol = EvaluationProtocol(episodes=20, epsilon=0.0)
    with tempfile.TemporaryDirectory() as folder:
        steps = max(400, int(TIMESTEPS * length))
        shared = {**common.CARTPOLE, "seed": seed, "runs_dir": folder, "verbose": False}
        best = {"total_timesteps": steps, "keep_best": True, "eval_every_timesteps": steps // 10}
        begun = sndqn.train("CartPole-v1", **{**shared, **SN["plain"], **best})
        more = {"total_timesteps": steps // 2, "init_from": str(begun.path)}
        for arm, sn in SN.items():
            tuned = sndqn.train(long, **{**shared, **sn, **more, "exploration_initial_eps": 0.2})
            again = evaluate(resolve_env("CartPole-v1"), tuned.agent.values, protocol).mean
            yield {
                "task": "CartPole", "arm": arm, "rate": shared["learning_rate"], "seed": seed,
                "before": begun.evaluation.mean, "first": again, "second": tuned.evaluation.mean,
                **moved(begun.agent.network, tuned.agent.network),
            }  # fmt: skip


def measure(seeds: int, length: float) -> Iterator[common.Run]:
    """Tunes every seed in every way."""
    for seed in range(seeds):
        yield from tune_digits(seed, length)
    for seed in range(seeds):
        yield from tune_cartpole(seed, length)


def tables(runs: list[common.Run]) -> str:
    """Writes both tasks' scores after tuning, and what each arm keeps more than the plain one."""
    heading = ["", "first task before", "after", "over plain", "second task", "σ times", "drift"]
    written = []
    settings = [("digits", rate, ARMS, 3) for rate in RATES] + [("CartPole", None, list(SN), 0)]
    for task, rate, arms, places in settings:
        mine = [run for run in runs if run["task"] == task and rate in (None, run["rate"])]
        more = common.gains(mine, "first", arms[1:], "plain", places)
        rows = []
        for arm in arms:
            before, first, second, growth, drift = (
                common.interval(common.of(mine, value, arm=arm), n)
                for value, n in zip(
                    ("before", "first", "second", "growth", "drift"),
                    (places,) * 3 + (2, 2),
                    strict=True,
                )
            )
            rows.append([arm, before, first, more.get(arm, ""), second, growth, drift])
        title = f"{task}, learning rate {mine[0]['rate']:g}"
        written.append(common.table([title, *heading[1:]], rows))
    return "\n\n".join(written)


def draw(runs: list[common.Run], path: Path) -> None:
    """Draws the accuracy on the first digits over fine-tuning, and both CartPoles' returns."""
    figure, axes = common.canvas(1, 3, (11, 3.6))
    for panel, rate in enumerate(RATES):
        for i, arm in enumerate(ARMS):
            seeds = common.of(runs, "curve", task="digits", arm=arm, rate=rate)
            at = [k * runs[0]["steps"] / LOOKS for k in range(len(seeds[0]))]
            common.curves(axes[0, panel], at, [[p[0] for p in c] for c in seeds], i, arm)
        title = f"accuracy on digits 0 to 4, learning rate {rate:g}"
        axes[0, panel].set(xlabel="steps on digits 5 to 9", title=title, ylim=(0.5, 1.01))
    axes[0, 0].legend(frameon=False, fontsize=8)
    for i, value in enumerate(("before", "first", "second")):
        scores = [common.of(runs, value, task="CartPole", arm=arm) for arm in SN]
        label = ("CartPole before", "CartPole after", "longer pole after")[i]
        common.points(axes[0, 2], [k + 0.12 * i for k in range(len(SN))], scores, i, label)
    axes[0, 2].set(
        xticks=range(len(SN)),
        xticklabels=list(SN),
        title="steps upright",
    )
    axes[0, 2].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    summary = (__doc__ or "").splitlines()[0]
    common.Example("fine-tuning", summary, measure, tables, draw).main()
