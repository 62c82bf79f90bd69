"""What the next updates would do, tried on a copy: gradients, steps and changed minds."""

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from sndqn.diagnostics.networks import action_values
from sndqn.diagnostics.sigma import raw_weight
from sndqn.networks.q_network import Observation
from sndqn.spectral import weight_layers


class Update(Protocol):
    """An update of an online network on a batch; `sndqn.algorithms.update.Update` is one."""

    @property
    def networks(self) -> Any:
        """The networks; `online` is what is trained."""

    @property
    def parameters(self) -> list[Any]:
        """What is trained of it."""

    def draw_noise(self) -> None:
        """Draws new noise for noisy layers."""

    def gradients(self, batch: Any) -> tuple[list[Tensor], Tensor, dict[str, Tensor]]:
        """Computes a gradient for each of the parameters, clipped."""

    def step(self, gradients: list[Tensor]) -> None:
        """Makes the optimiser's step."""


def try_updates(
    update: Update, batches: Sequence[Any], observations: Observation, seed: int
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Makes updates on a copy of networks and optimiser, and tells what they did.

    The originals, and the global random numbers, stay as they are. The updates are eager, which
    differ from compiled ones by rounding.

    Args:
        update: The update; a copy of it is used.
        batches: What to update on, one after the other.
        observations: States whose greedy action is watched.
        seed: Of the numbers that noisy layers draw.

    Returns:
        "churn", the mean share of states whose greedy action an update changed; and by layer, as
        means over the updates: gradient_norm |g|, update_norm |ΔW|, relative_update |ΔW| / |W|.

    Source: churn: Schaul et al., NeurIPS 2022 (arXiv 2206.00730).
    """
    update = copy.deepcopy(update)
    network = update.networks.online
    weights = {entry.name: raw_weight(entry.layer) for entry in weight_layers(network)}
    positions = {id(p): index for index, p in enumerate(update.parameters)}
    totals: dict[str, dict[str, float]] = {
        name: dict.fromkeys(("gradient_norm", "update_norm", "relative_update"), 0.0)
        for name, weight in weights.items()
        if id(weight) in positions
    }
    device = next(iter(weights.values())).device
    changed = 0.0
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        greedy = action_values(network, observations).argmax(dim=1)
        for batch in batches:
            before = {name: weights[name].detach().clone() for name in totals}
            update.draw_noise()
            gradients = update.gradients(batch)[0]
            for name, row in totals.items():
                row["gradient_norm"] += _norm(gradients[positions[id(weights[name])]])
            update.step(gradients)
            for name, row in totals.items():
                step = _norm(weights[name].detach() - before[name])
                row["update_norm"] += step
                row["relative_update"] += step / max(_norm(before[name]), 1e-12)
            now = action_values(network, observations).argmax(dim=1)
            changed += float((now != greedy).float().mean())
            greedy = now
    n = len(batches)
    layers = {name: {key: total / n for key, total in row.items()} for name, row in totals.items()}
    return {"churn": changed / n}, layers


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))
