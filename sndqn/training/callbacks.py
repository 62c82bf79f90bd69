"""What happens every so often during training: logging, progress, evaluation, change."""

import io
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor, nn

from sndqn.diagnostics import convolved_sizes
from sndqn.envs import EnvSettings, make_vec_env
from sndqn.envs.journal import JournalVecEnv
from sndqn.evaluation import EvaluationRecord
from sndqn.files import write_bytes
from sndqn.networks.noisy import without_noise
from sndqn.policies.sigma_callback import measure_sigma
from sndqn.spectral import weight_layers
from sndqn.spectral.norms import Pair
from sndqn.spectral.spectral_layer import ConvNorm
from sndqn.training.signals import TrainingStopped

# At most, where a tenth of the training takes longer.
_SECONDS_BETWEEN_LINES = 30.0


class StatefulCallback(BaseCallback):
    """A callback with a state that a run's further course depends on."""

    def get_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns the state as tensors by name and JSON data."""
        raise NotImplementedError

    def set_state(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Takes the state of another callback, made with the same arguments."""
        raise NotImplementedError


class LogCallback(StatefulCallback):
    """Writes a record of metrics every so many steps, σ of every weight layer among them.

    That of a normalised layer is the one training divides by; a plain layer's is estimated for the
    record, from its weight alone.

    Args:
        every_timesteps: Steps between records.
        conv_norm: Which norm of plain convolutions, "operator" or "kernel".
        log_drift: Whether |W - W_0| / |W_0| is among them for every weight layer, with W_0 the
            weight that training started from.
    """

    def __init__(
        self, every_timesteps: int, conv_norm: ConvNorm = "operator", log_drift: bool = False
    ) -> None:
        super().__init__()
        self.every_timesteps = every_timesteps
        self.conv_norm = conv_norm
        self.sizes: dict[nn.Module, Pair] = {}
        self.next_at = every_timesteps
        self.log_drift = log_drift
        self.start: dict[str, Tensor] = {}

    def _on_training_start(self) -> None:
        policy: Any = self.model.policy
        self.sizes = convolved_sizes(policy.q_net, policy.observation_space)
        if self.log_drift and not self.start:
            network: Any = self.model.policy.q_net
            layers = weight_layers(network)
            self.start = {entry.name: entry.layer.weight.detach().clone() for entry in layers}

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.next_at:
            self.next_at += self.every_timesteps
            self._record()
        return True

    def _on_training_end(self) -> None:
        self._record()

    def get_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns the weights that drift is measured from, and when the next record is due."""
        return self.start, {"next_at": self.next_at}

    def set_state(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Takes what `get_state` returned."""
        self.start, self.next_at = dict(tensors), data["next_at"]

    def _record(self) -> None:
        network: Any = self.model.policy.q_net
        for name, sigma in measure_sigma(network, self.sizes, self.conv_norm).items():
            self.logger.record(f"sn/{name}/sigma", sigma)
        for name, start in self.start.items():
            moved = network.get_submodule(name).weight.detach() - start
            self.logger.record(f"drift/{name}", float(moved.norm() / start.norm()))
        self.model.dump_logs()


class GamesCallback(BaseCallback):
    """Keeps return and length of every training game, in the order in which they end."""

    def _on_step(self) -> bool:
        for index in np.flatnonzero(self.locals["dones"]).tolist():
            game = self.locals["infos"][index].get("episode")
            if game is not None:  # a lost life ends no game
                writer: Any = self.logger.output_formats[0]
                writer.write_game(game["r"], game["l"], self.num_timesteps)
        return True


class ProgressCallback(BaseCallback):
    """Shows a bar with steps per second, return and time left; plain lines where output is piped.

    Args:
        total_timesteps: Steps of the whole training.
        console: Where to.
        label: Of one training among several, which gets lines with its name instead of a bar.
    """

    def __init__(self, total_timesteps: int, console: Console, label: str = "") -> None:
        super().__init__()
        self.console = console
        self.label = label
        self.in_lines = bool(label) or not console.is_terminal
        self.progress = Progress(
            BarColumn(bar_width=30),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[score]}"),
            TimeRemainingColumn(),
            console=console,
            disable=self.in_lines,
        )
        self.task = self.progress.add_task("", total=total_timesteps, rate="", score="")
        self.total_timesteps = total_timesteps
        self.last_shown = (0.0, 0)
        self.next_line, self.line_by = 0.1, math.inf

    def _on_training_start(self) -> None:
        self.progress.start()
        self.line_by = time.monotonic() + _SECONDS_BETWEEN_LINES
        self.last_shown = (time.monotonic(), self.num_timesteps)

    def _on_step(self) -> bool:
        # Looking at the clock at each step would cost more than the bar.
        if self.n_calls % 32 == 0 and time.monotonic() - self.last_shown[0] > 0.5:
            self._show()
        return True

    def _on_training_end(self) -> None:
        self._show()
        self.close()

    def close(self) -> None:
        """Ends the bar."""
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
        if self.in_lines and (done >= self.next_line or now >= self.line_by):
            self.next_line, self.line_by = done + 0.1, now + _SECONDS_BETWEEN_LINES
            prefix = f"{self.label}: " if self.label else ""
            self.console.print(
                f"{prefix}{self.num_timesteps:,}/{self.total_timesteps:,} steps, {speed}, {score}",
                highlight=False,
            )


class EvaluationCallback(StatefulCallback):
    """Evaluates the network every so many steps, keeps every return and remembers the best network.

    It does so between two blocks, where training can be left. An evaluation that a signal ends
    counts for nothing, and is made when training is taken up again.

    Where the environment changes on the way, every evaluation is made under the settings of every
    phase: `eval/phase_N/mean_return`, and `eval/mean_return` under the present ones.

    Args:
        every_timesteps: Steps between evaluations.
        evaluate: Evaluates a Q-network under settings.
        phases: The environment's settings by the step from which they hold, 0 first.
        file: For return and length of every episode under the present settings: an .npz file as
            Stable-Baselines3's `EvalCallback` writes it; None writes none.
        keep_best: Whether to keep the weights of the best one evaluated, among equals the latest,
            for `restore_best`.
    """

    def __init__(
        self,
        every_timesteps: int,
        evaluate: Callable[[Any, EnvSettings], EvaluationRecord],
        phases: Mapping[int, EnvSettings],
        file: Path | None = None,
        keep_best: bool = False,
    ) -> None:
        super().__init__()
        self.phases = phases
        self.every_timesteps = every_timesteps
        self.evaluate = evaluate
        self.file = file
        # By evaluation: the step, the episodes' returns, their lengths.
        self.curve: list[tuple[int, list[float], list[int]]] = []
        self.keep_best = keep_best
        self.next_at = every_timesteps
        self.best_return = -math.inf
        self.best_step: int | None = None
        self.best_state: dict[str, Tensor] = {}

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._evaluate_if_due()

    def _on_rollout_end(self) -> None:
        self._evaluate_if_due()

    def _on_training_end(self) -> None:
        self._evaluate_if_due()

    def restore_best(self) -> tuple[int, float] | None:
        """Loads the weights of the best network, after the last record of metrics.

        Returns:
            The step they are of, and their mean return; None where the network stays as it is.
        """
        if self.best_step is None:
            return None
        network: Any = self.model.policy.q_net
        network.load_state_dict(self.best_state)
        return self.best_step, self.best_return

    def _evaluate_if_due(self) -> None:
        step = self.model.num_timesteps
        if step < self.next_at:
            return
        # Acting, the network is in evaluation mode already: nothing in it moves.
        network: Any = self.model.policy.q_net
        try:
            with without_noise(network):
                records = [self.evaluate(network, phase) for phase in self.phases.values()]
        except TrainingStopped:
            return
        self.next_at += self.every_timesteps
        present = sum(at <= step for at in self.phases) - 1
        mean_return = records[present].mean
        if len(records) > 1:
            for index, record in enumerate(records):
                self.logger.record(f"eval/phase_{index}/mean_return", record.mean)
        self.logger.record("eval/mean_return", mean_return)
        self.logger.dump(step)  # a record of its own: the next may come later
        lengths = [episode.length for episode in records[present].episodes]
        self.curve.append((step, list(records[present].returns), lengths))
        self._write_curve()
        if self.keep_best and mean_return >= self.best_return:
            self.best_return, self.best_step = mean_return, step
            self.best_state = {name: t.clone() for name, t in network.state_dict().items()}

    def _write_curve(self) -> None:
        if self.file is None:
            return
        steps, returns, lengths = zip(*self.curve, strict=True)
        content = io.BytesIO()
        np.savez(content, timesteps=steps, results=returns, ep_lengths=lengths)
        write_bytes(self.file, content.getvalue())

    def get_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns the best network so far, all returns, and when the next evaluation is due."""
        data = {
            "next_at": self.next_at,
            "best_return": self.best_return if self.best_state else None,
            "best_step": self.best_step,
            "curve": [list(each) for each in self.curve],
        }
        return self.best_state, data

    def set_state(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Takes what `get_state` returned."""
        self.best_state, self.next_at = dict(tensors), data["next_at"]
        self.curve = [(step, returns, lengths) for step, returns, lengths in data["curve"]]
        if data["best_return"] is not None:
            self.best_return, self.best_step = data["best_return"], data["best_step"]


class EnvChanges(StatefulCallback):
    """Changes the training environments at given steps: closes them and makes new ones.

    The games under way are left, not ended: the replay bootstraps from their last observations.

    Args:
        phases: The environment's settings by the step from which they hold, 0 first; of equal
            spaces.
        console: Says when it changes.
        seed: Of the first phase; later ones count on from it.
    """

    def __init__(self, phases: Mapping[int, EnvSettings], console: Console, seed: int = 0) -> None:
        super().__init__()
        self.coming = [(at, phases[at]) for at in sorted(phases) if at > 0]
        self.console = console
        self.seed = seed
        self.n_made = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:  # between two blocks: no step is under way
        model: Any = self.model
        step = model.num_timesteps
        if self.n_made == len(self.coming) or step < self.coming[self.n_made][0]:
            return
        settings = self._change()
        model.begin_anew()
        self.console.print(
            f"From step {step:,}: {settings.describe()}", highlight=False, soft_wrap=True
        )

    def _change(self) -> EnvSettings:
        """Puts the next environments in the place of the present ones."""
        settings = self.coming[self.n_made][1]
        self.n_made += 1
        model, seed = self.model, self.seed + self.n_made
        assert model.env is not None
        n_envs = model.env.num_envs
        model.env.close()
        model.set_env(JournalVecEnv(make_vec_env(settings, n_envs), seed))
        return settings

    def get_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns the number of changes made."""
        return {}, {"n_made": self.n_made}

    def set_state(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Makes those changes; the new environments are not reset yet."""
        while self.n_made < data["n_made"]:
            self._change()
