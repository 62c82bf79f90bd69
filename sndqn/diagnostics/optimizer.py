"""What an optimiser's memory says of its steps: whether ε or the second moment decides them."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sndqn.optimizers import RMSprop


class Memory(NamedTuple):
    """What a step divides by, and what it divides.

    Attributes:
        root: √v̂, the root of the second moment, without bias where Adam removes it.
        eps: What is added to it, or what stands for that where ε is inside the root.
        mean: m̂, the first moment without bias; None where the gradient itself is divided.
    """

    root: Tensor
    eps: float
    mean: Tensor | None


@torch.no_grad()
def eps_ratios(
    optimizer: Any, weights: Iterable[tuple[str, Tensor]]
) -> dict[str, dict[str, float]]:
    """Compares √v̂ with ε, over the entries of each weight: which of the two makes a step's size?

    Where √v̂ is far above ε, Adam's step is about a sign; far below, it is the gradient over ε.

    Args:
        optimizer: Adam or RMSprop, sndqn's or torch's. Others have no such ratio.
        weights: Parameters with the names that the result gives them.

    Returns:
        By name: eps_ratio_10, eps_ratio_50 and eps_ratio_90, quantiles of √v̂/ε in percent;
        eps_ratio_below_1, the share of entries below 1; with Adam also step_size, the mean of
        |m̂| / (√v̂ + ε), which is a step's in units of the learning rate. Nothing of a weight that
        has made no step.
    """
    found = {}
    for name, weight in weights:
        memory = _memory(optimizer, weight)
        if memory is None:
            continue
        ratios = (memory.root / memory.eps).cpu().numpy().ravel()
        low, middle, high = np.quantile(ratios, (0.1, 0.5, 0.9)).tolist()
        row = {"eps_ratio_10": low, "eps_ratio_50": middle, "eps_ratio_90": high}
        row["eps_ratio_below_1"] = float(np.mean(ratios < 1))
        if memory.mean is not None:
            sizes = memory.mean.abs() / (memory.root + memory.eps)
            row["step_size"] = float(sizes.mean())
        found[name] = row
    return found


def _memory(optimizer: Any, weight: Tensor) -> Memory | None:
    """Reads an optimiser's state of a weight; None where there is none, or of another kind."""
    state = optimizer.state.get(weight)  # to index it would make one
    group = next((g for g in optimizer.param_groups if any(weight is p for p in g["params"])), None)
    if not state or group is None or not group.get("eps"):
        return None
    if isinstance(optimizer, torch.optim.Adam):
        return _adams(optimizer, weight, state, group)
    if isinstance(optimizer, RMSprop | torch.optim.RMSprop):
        variance = state["square_avg"].clone()
        if group["centered"]:
            variance.addcmul_(state["grad_avg"], state["grad_avg"], value=-1).clamp_min_(0)
        inside = group.get("eps_inside_root", False)
        return Memory(variance.sqrt_(), group["eps"] ** (0.5 if inside else 1), None)
    return None


def _adams(optimizer: Any, weight: Tensor, state: Any, group: Any) -> Memory:
    beta1, beta2 = map(float, group["betas"])
    step = float(state["step"])
    second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    mean, eps = state["exp_avg"], float(group["eps"])
    scheduler = getattr(optimizer, "scheduler", None)
    if scheduler is not None and scheduler.name == "mul_eps":
        eps *= float(scheduler.factors([weight])[0])
    root = (second / (1 - beta2**step)).sqrt_()
    return Memory(root, eps, mean / (1 - beta1**step))
