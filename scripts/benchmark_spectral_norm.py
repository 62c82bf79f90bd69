"""Times one DQN update of the Nature CNN: without SN, with sndqn's, with torch's own.

Forward and backward of the online network with the power iteration, the forward of the target
network, and Adam, at batch 32; the variants are interleaved in one process. Run:

    python scripts/benchmark_spectral_norm.py [--layers -2] [--threads 2] [--repeats 60]
"""

import argparse
import copy
import json
import platform
import time

import torch
from torch import nn
from torch.nn.utils import parametrizations

from sndqn.networks import NatureCNN
from sndqn.spectral import normalize_layers, select_layers


def build(variant: str, layers: str) -> nn.Module:
    torch.manual_seed(0)
    torso = NatureCNN((4, 84, 84))
    network = nn.Sequential(torso, nn.Linear(torso.features_dim, 6))
    names = [entry.name for entry in select_layers(network, layers)]
    if variant == "sndqn":
        normalize_layers(network, names, torch.zeros(1, 4, 84, 84))
    if variant == "torch":
        for name in names:
            parametrizations.spectral_norm(network.get_submodule(name))
    return network


class Update:
    """One gradient step of DQN on a fixed batch."""

    def __init__(self, variant: str, layers: str, batch_size: int, adam: bool) -> None:
        self.online = build(variant, layers)
        self.target = copy.deepcopy(self.online).eval()
        self.optimizer = torch.optim.Adam(self.online.parameters(), fused=True) if adam else None
        self.batch = torch.rand(2, batch_size, 4, 84, 84)

    def __call__(self) -> None:
        with torch.no_grad():
            target = self.target(self.batch[1]).max(dim=1).values
        loss = nn.functional.smooth_l1_loss(self.online(self.batch[0])[:, 0], target)
        self.online.zero_grad(set_to_none=True)
        loss.backward()
        if self.optimizer is not None:
            self.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", default="-2", help="selection, as in --sn-layers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--no-adam", action="store_true", help="time the gradient alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    updates = {
        variant: Update(variant, arguments.layers, arguments.batch_size, not arguments.no_adam)
        for variant in ("plain", "sndqn", "torch")
    }
    seconds: dict[str, list[float]] = {variant: [] for variant in updates}
    for repeat in range(arguments.repeats + 5):
        for variant, update in updates.items():
            start = time.perf_counter()
            update()
            if repeat >= 5:
                seconds[variant].append(time.perf_counter() - start)
    # Each repeat runs the three in turn, so its ratio is free of what else the machine does.
    result = {
        variant: {
            "ms": round(1e3 * sorted(times)[len(times) // 2], 3),
            "ratio": round(
                sorted(t / p for t, p in zip(times, seconds["plain"], strict=True))[
                    len(times) // 2
                ],
                3,
            ),
        }
        for variant, times in seconds.items()
    }
    for variant, row in result.items():
        print(f"{variant:8s} {row['ms']:8.2f} ms   {row['ratio']:.2f} of plain")
    print(
        json.dumps(
            {
                "layers": arguments.layers,
                "batch_size": arguments.batch_size,
                "threads": arguments.threads,
                "torch": torch.__version__,
                "machine": platform.processor() or platform.machine(),
                "result": result,
            }
        )
    )


if __name__ == "__main__":
    main()
