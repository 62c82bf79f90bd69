"""How fast a training is, measured in its first seconds, and so how long it will take."""

import time
from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from sndqn.console import roughly

# The first updates compile, or are slow for other reasons.
_FIRST_UPDATES = 50
_SECONDS = 4.0
# Shorter trainings need no estimate.
_WORTH_SAYING = 600.0


class PaceCallback(BaseCallback):
    """Measures steps per second over the seconds that follow the first updates, between blocks.

    Args:
        then: Called once with the steps per second; says whether training goes on.

    Attributes:
        steps: Steps in them.
        seconds: How many they were.
    """

    def __init__(self, then: Callable[[float], bool]) -> None:
        super().__init__()
        self.then = then
        self.begun: tuple[float, int] | None = None
        self.steps, self.seconds = 0, 0.0
        self.measured, self.goes_on = False, True

    def _on_step(self) -> bool:
        return self.goes_on

    def _on_rollout_start(self) -> None:
        model: Any = self.model
        if self.measured or model._n_updates < _FIRST_UPDATES:
            return
        now = time.monotonic()
        if self.begun is None:
            if model.num_timesteps > model.refilled_at:
                self.begun = now, self.num_timesteps
            return
        self.seconds, self.steps = now - self.begun[0], self.num_timesteps - self.begun[1]
        if self.seconds >= _SECONDS:
            self.measured = True
            self.goes_on = self.then(self.steps / self.seconds)


class EstimateCallback(PaceCallback):
    """Says once how long a training will take, if that is more than ten minutes.

    Args:
        total_timesteps: Steps of the whole training.
        say: Says a line.
    """

    def __init__(self, total_timesteps: int, say: Callable[[str], None]) -> None:
        super().__init__(self._estimate)
        self.total_timesteps = total_timesteps
        self.say = say
        self.start = 0.0

    def _on_training_start(self) -> None:
        self.start = time.monotonic()

    def _estimate(self, rate: float) -> bool:
        left = (self.total_timesteps - self.num_timesteps) / max(rate, 1e-9)
        whole = roughly(left + time.monotonic() - self.start)
        if left > _WORTH_SAYING:
            in_all = "" if whole == roughly(left) else f", {whole} in all"
            self.say(f"About {roughly(left)} to go{in_all}: {rate:,.0f} steps/s while it learns")
        return True
