"""What a replay hands to a loss: Stable-Baselines3's sample, and what some losses need besides."""

from typing import Any, NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Stable-Baselines3's `ReplayBufferSamples`, in its order, with importance weights.

    Attributes:
        observations: Shape (batch, *observation shape), or a dict of such.
        actions: Shape (batch, 1).
        next_observations: As `observations`.
        dones: Whether what follows is worth nothing, shape (batch, 1), 0 or 1.
        rewards: Shape (batch, 1); with n-step returns their discounted sums.
        discounts: Discount of what follows, shape (batch, 1); None for the algorithm's own γ.
        weights: Importance of each sample in the loss, shape (batch, 1), float32; None for 1.
        random: Numbers that the loss asked for, shape (batch, n). They are drawn outside so that
            the loss stays a pure function.
    """

    # Dict observations come as dicts of tensors.
    observations: Any
    actions: Tensor
    next_observations: Any
    dones: Tensor
    rewards: Tensor
    discounts: Tensor | None = None
    weights: Tensor | None = None
    random: Tensor | None = None


def as_batch(samples: Any) -> Batch:
    """Returns what a replay gave as a Batch, which Stable-Baselines3's own replays do not give."""
    return samples if isinstance(samples, Batch) else Batch(*samples)


def split(samples: Batch, size: int) -> list[Batch]:
    """Returns samples as batches of `size` rows; views, no copies."""
    n = len(samples.rewards) // size
    if n == 1:
        return [samples]

    def parts(value: Any) -> Any:
        if isinstance(value, dict):
            columns = zip(*map(parts, value.values()), strict=True)
            return [dict(zip(value, row, strict=True)) for row in columns]
        # chunk takes less than half the time of split.
        return [None] * n if value is None else value.chunk(n)

    return [type(samples)(*fields) for fields in zip(*map(parts, samples), strict=True)]
