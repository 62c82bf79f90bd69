"""What states were worth as they were played out, against what a network says of them."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Played(NamedTuple):
    """Steps that were played, oldest first, each array of shape (steps, environments).

    Attributes:
        rewards: As training sees them: clipped, where it clips.
        actions: What was done.
        ends: Whether an episode ended with the step.
        truncated: Whether it was cut there, by a limit or by leaving the game.
    """

    rewards: Array
    actions: Array
    ends: Array
    truncated: Array


def played_out(played: Played, gamma: float) -> Array:
    """Computes the discounted return that followed each step, Σ γᵏ r, up to its episode's end.

    Returns:
        Shape (steps, environments), in float64; NaN where it is not known: the episode is still
        under way, or was truncated.
    """
    found = np.full(played.rewards.shape, np.nan)
    for env in range(played.rewards.shape[1]):
        rewards, ends, truncated = (
            part[:, env].tolist() for part in (played.rewards, played.ends, played.truncated)
        )
        total = math.nan
        for step in range(len(rewards) - 1, -1, -1):  # Python's numbers: numpy's take longer
            if ends[step]:
                total = math.nan if truncated[step] else 0.0
            total = rewards[step] + gamma * total
            found[step, env] = total
    return found


def q_bias(values: Array, returns: Array) -> dict[str, float]:
    """Compares Q(s, a) with the returns that followed (s, a).

    Args:
        values: Q(s, a), (states,).
        returns: From `played_out`, (states,).

    Returns:
        q_bias_mean and q_bias_std of Q - G; q_bias_relative, the mean over |mean G|, where that is
        not 0; q_bias_states, how many there were. {} of no states.

    Source: van Hasselt et al., AAAI 2016 (arXiv 1509.06461), section 3; relative: Chen et al.,
    ICLR 2021 (arXiv 2101.05982).
    """
    if not len(returns):
        return {}
    bias = np.asarray(values, np.float64) - returns
    found = {"q_bias_mean": float(bias.mean()), "q_bias_std": float(bias.std())}
    scale = abs(float(returns.mean()))
    if scale > 0:
        found["q_bias_relative"] = found["q_bias_mean"] / scale
    return {**found, "q_bias_states": float(len(returns))}


def action_swaps(played: Played) -> float:
    """Computes the share of steps within episodes whose action is not the one before it."""
    same_game = ~played.ends[:-1].astype(bool)
    changed = played.actions[1:] != played.actions[:-1]
    n = int(same_game.sum())
    return float((changed & same_game).sum() / n) if n else math.nan
