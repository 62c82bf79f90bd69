"""ε-greedy schedules: how the probability of a random action falls over training."""

from dataclasses import dataclass
from typing import Literal

from sndqn.errors import ConfigError

ExplorationName = Literal["linear", "logarithmic", "constant"]


@dataclass(frozen=True)
class ExplorationSchedule:
    """ε as a function of the share of training that remains, as Stable-Baselines3 asks for it.

    Attributes:
        initial: ε at first, and during the warm-up.
        final: ε in the end; "logarithmic" needs it above 0.
        warmup: Share of the training after which ε begins to fall.
        end: Share of the training after which ε is `final`.
        shape: "linear"; "logarithmic", falling by equal ratios; or "constant", `final` throughout.

    Raises:
        ConfigError: Probabilities out of range, or a warm-up that ends after the fall.
    """

    initial: float
    final: float
    warmup: float
    end: float
    shape: ExplorationName = "linear"

    def __post_init__(self) -> None:
        for name in ("initial", "final"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"exploration: expected {name} ε in [0, 1], found {value}")
        if self.shape not in ("linear", "logarithmic", "constant"):
            raise ConfigError(
                "exploration: expected linear, logarithmic or constant, found " + repr(self.shape)
            )
        if self.shape == "constant":
            return
        if not 0 <= self.warmup <= self.end:
            raise ConfigError(
                f"exploration: expected a warm-up between 0 and the fall's end at {self.end:g} of "
                f"the training, found {self.warmup:g}"
            )
        if self.shape == "logarithmic" and not min(self.initial, self.final) > 0:
            raise ConfigError(
                f"exploration logarithmic: expected ε above 0, found {self.initial} to "
                f"{self.final}. Type --exploration-final-eps 0.01, or --exploration linear"
            )

    def __call__(self, progress_remaining: float) -> float:
        """Returns ε where so much of the training remains, from 1 to 0."""
        progress = 1 - progress_remaining
        if self.shape == "constant" or progress >= self.end:
            return self.final
        if progress <= self.warmup:
            return self.initial
        fallen = (progress - self.warmup) / (self.end - self.warmup)
        if self.shape == "logarithmic":
            return float(self.initial * (self.final / self.initial) ** fallen)
        return self.initial + fallen * (self.final - self.initial)
