"""Prioritised experience replay over frames that are kept once."""

from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from sndqn.errors import ConfigError
from sndqn.replay.batch import Batch
from sndqn.replay.frame_ring import FrameRing
from sndqn.replay.rows import Indices
from sndqn.replay.sum_tree import SumTree

# Added to every error, so that a transition with none is still drawn now and then.
_SMALLEST_ERROR = 1e-6


class PrioritizedFrameRing(FrameRing):
    """A FrameRing that draws the transitions with the largest errors the most often.

    The proportional variant of Schaul et al., "Prioritized Experience Replay", ICLR 2016
    (arXiv:1511.05952): P(i) = pᵢ^α / Σₖ pₖ^α with pᵢ = |δᵢ| + 1e-6, one draw from each of as many
    equal parts of the sum as the batch has rows, and the weights (N P(i))^-β against the bias,
    divided by their maximum. Where the paper leaves a choice:

    - The maximum is that of the sample, as in Dopamine and dqn_zoo, not that of the whole replay.
    - α is 0.5 and stays so, as in Rainbow (Hessel et al., AAAI 2018: ω). β begins at 0.4.
    - The rows are in random order, so that any part of a large sample is a fair one as well.

    Each environment's transition at an index is a leaf of its own: index * n_envs + environment.
    What was just added, or overwritten, has the largest priority seen since the last `reset`.

    Args:
        *args: As `FrameRing`'s.
        priority_exponent: α, from 0 (uniform sampling) to 1.
        importance_exponent: β at the start, from 0 (no weights) to 1 (no bias).
        **options: As `FrameRing`'s.

    Attributes:
        beta: β of the next sample, for the algorithm to raise to 1; `reset` leaves it.
        sampled: Leaves of the newest sample, in its order, shape (batch,).

    Raises:
        ConfigError: An exponent is out of range.
    """

    def __init__(
        self,
        *args: Any,
        priority_exponent: float = 0.5,
        importance_exponent: float = 0.4,
        **options: Any,
    ) -> None:
        exponents = {"priority": priority_exponent, "importance": importance_exponent}
        for name, value in exponents.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}_exponent: expected a number from 0 to 1, found {value}")
        super().__init__(*args, **options)
        self.priority_exponent = float(priority_exponent)
        self.importance_exponent = self.beta = float(importance_exponent)
        self._tree = SumTree(self.buffer_size * self.n_envs)
        self._forget()

    def _forget(self) -> None:
        self._largest = 1.0
        self.sampled: Indices = np.zeros(0, np.int64)

    @property
    def nbytes_per_transition(self) -> float:
        """Bytes of memory per transition once the ring is full, kept observations aside."""
        return super().nbytes_per_transition + self._tree.nbytes / self._tree.size

    def reset(self) -> None:
        """Forgets all transitions and priorities."""
        super().reset()
        self._tree.clear()
        self._forget()

    def _write(self, *transition: Any) -> None:
        super()._write(*transition)
        leaves = self.pos * self.n_envs + np.arange(self.n_envs)
        self._tree.update(leaves, np.full(self.n_envs, self._largest))

    def sample(  # type: ignore[override]  # ReplayBufferSamples has no room for weights
        self, batch_size: int, env: VecNormalize | None = None
    ) -> Batch:
        """Draws transitions in proportion to their priorities, with NumPy's global generator.

        Args:
            batch_size: How many.
            env: Normalises observations and rewards.

        Raises:
            ValueError: There is no transition yet.
        """
        segments = np.random.permutation(batch_size) + np.random.random(batch_size)
        # In this order rounding leads to the total at most, never beyond it.
        self.sampled = leaves = self._tree.find(segments / batch_size * self._tree.total)
        priorities = self._tree.get(leaves)
        # N and the priorities' sum are in the maximum as well, so they cancel.
        weights = (priorities / priorities.min()) ** -self.beta
        samples = self.gather(leaves // self.n_envs, leaves % self.n_envs, env)
        return samples._replace(weights=self._to_device(weights.astype(np.float32)[:, None]))

    def update_priorities(self, leaves: Indices, errors: Tensor | npt.NDArray[Any]) -> None:
        """Makes (|error| + 1e-6)^α the priorities of some transitions.

        To be called before the next `add`, which may put another transition in a leaf.

        Args:
            leaves: What `sampled` was, shape (batch,).
            errors: Temporal-difference error or loss of each sample, shape (batch,) or (batch, 1).

        Raises:
            ValueError: An error is not finite, a leaf holds no transition, or there are not as
                many of both. Nothing was changed.
        """
        if isinstance(errors, Tensor):
            errors = errors.detach().cpu().double().numpy()
        values = np.asarray(errors, np.float64).reshape(-1)
        if len(values) != len(leaves):
            raise ValueError(f"expected an error per leaf, {len(leaves)}, found {len(values)}")
        if not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values))[0]
            raise ValueError(f"expected finite errors, found {values[bad]} in row {bad}")
        if not self._tree.get(leaves).all():
            raise ValueError("expected leaves that hold transitions, found an empty one")
        priorities = (np.abs(values) + _SMALLEST_ERROR) ** self.priority_exponent
        self._tree.update(leaves, priorities)
        self._largest = max(self._largest, float(priorities.max(initial=0.0)))
