"""The agent so far, written now and then while it learns: for those who watch."""

import time
from collections.abc import Callable

from stable_baselines3.common.callbacks import BaseCallback

from sndqn.errors import RunFolderError

# Writing takes at most 0.5 % of a training's time, and happens at most every 5 s.
_TIMES_ITS_DURATION, _SECONDS_BETWEEN = 200, 5.0


class NewestAgentCallback(BaseCallback):
    """Writes the agent between two blocks, so rarely that training hardly becomes longer.

    What is learnt does not depend on it: the clock decides when, and nothing is drawn or changed.

    Args:
        save: Writes it.
        warn: Says what went wrong, once; training goes on.
    """

    def __init__(self, save: Callable[[], object], warn: Callable[[str], None]) -> None:
        super().__init__()
        self.save, self.warn = save, warn
        self.next_at = 0.0
        self.has_failed = False

    def _on_training_start(self) -> None:
        self.next_at = time.monotonic() + _SECONDS_BETWEEN

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        begun = time.monotonic()
        if begun < self.next_at:
            return
        try:
            self.save()
        except RunFolderError as error:
            if not self.has_failed:
                self.warn(f"The newest weights cannot be watched: {error}")
            self.has_failed = True
        now = time.monotonic()
        self.next_at = now + max(_TIMES_ITS_DURATION * (now - begun), _SECONDS_BETWEEN)
