"""What happens every so often during training: logging, progress, evaluation."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from sndqn.spectral import SpectralLayer


class LogCallback(BaseCallback):
    """Writes a record of metrics every so many steps, σ of the normalised layers among them.

    Args:
        every_timesteps: Steps between records.
    """

    def __init__(self, every_timesteps: int) -> None:
        super().__init__()
        self.every_timesteps = every_timesteps
        self.next_at = every_timesteps

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.next_at:
            self.next_at += self.every_timesteps
            self._record()
        return True

    def _on_training_end(self) -> None:
        self._record()

    def _record(self) -> None:
        network: Any = self.model.policy.q_net
        for name, layer in network.named_modules():
            if isinstance(layer, SpectralLayer):
                self.logger.record(f"sn/{name}/sigma", float(layer.running_sigma))
        self.model.dump_logs()


class ProgressCallback(BaseCallback):
    """Shows a bar with steps per second, return and time left; plain lines where output is piped.

    Args:
        total_timesteps: Steps of the whole training.
        console: Where to.
    """

    def __init__(self, total_timesteps: int, console: Console) -> None:
        super().__init__()
        self.console = console
        self.progress = Progress(
            BarColumn(bar_width=30),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[score]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("", total=total_timesteps, rate="", score="")
        self.total_timesteps = total_timesteps
        self.last_shown = (0.0, 0)
        self.next_line = 0.1

    def _on_training_start(self) -> None:
        self.progress.start()
        self.last_shown = (time.monotonic(), self.num_timesteps)

    def _on_step(self) -> bool:
        # Looking at the clock at each step would cost more than the bar.
        if self.n_calls % 32 == 0 and time.monotonic() - self.last_shown[0] > 0.5:
            self._show()
        return True

    def _on_training_end(self) -> None:
        self._show()
        self.progress.stop()

    def _show(self) -> None:
        now = time.monotonic()
        rate = (self.num_timesteps - self.last_shown[1]) / max(now - self.last_shown[0], 1e-9)
        self.last_shown = (now, self.num_timesteps)
        games: Any = self.model.ep_info_buffer or []
        score = f"return {np.mean([game['r'] for game in games]):.1f}" if games else "return -"
        speed = f"{rate:,.0f} steps/s"
        self.progress.update(self.task, completed=self.num_timesteps, rate=speed, score=score)
        done = self.num_timesteps / self.total_timesteps
        if not self.console.is_terminal and done >= self.next_line:
            self.next_line = done + 0.1
            self.console.print(
                f"{self.num_timesteps:,}/{self.total_timesteps:,} steps, {speed}, {score}",
                highlight=False,
            )


class EvaluationCallback(BaseCallback):
    """Evaluates the network every so many steps, logs the mean return and remembers the best.

    Args:
        every_timesteps: Steps between evaluations.
        evaluate: Evaluates a Q-network; gives the mean return.
        keep_best: Whether the network ends as the best one evaluated; among equals the latest.
    """

    def __init__(
        self, every_timesteps: int, evaluate: Callable[[Any], float], keep_best: bool = False
    ) -> None:
        super().__init__()
        self.every_timesteps = every_timesteps
        self.evaluate = evaluate
        self.keep_best = keep_best
        self.next_at = every_timesteps
        self.best_return = -math.inf
        self.best_state: dict[str, Tensor] = {}

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.next_at:
            self.next_at += self.every_timesteps
            # Acting, the network is in evaluation mode already: nothing in it moves.
            network: Any = self.model.policy.q_net
            mean_return = self.evaluate(network)
            self.logger.record("eval/mean_return", mean_return)
            self.logger.dump(self.num_timesteps)  # a record of its own: the next may come later
            if self.keep_best and mean_return >= self.best_return:
                self.best_return = mean_return
                self.best_state = {name: t.clone() for name, t in network.state_dict().items()}
        return True

    def _on_training_end(self) -> None:
        if self.best_state:
            network: Any = self.model.policy.q_net
            network.load_state_dict(self.best_state)
