"""A run under way: learning, evaluating what was learnt, and the end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from rich.console import Console

from sndqn.algorithms import MultiTask
from sndqn.algorithms.acceleration import find_acceleration
from sndqn.console import say
from sndqn.files import write_json
from sndqn.runs.checkpoint import Checkpoint, CheckpointStore
from sndqn.runs.folder import RunFolder, now
from sndqn.training.build import task_callbacks
from sndqn.training.checkpoints import (
    CheckpointCallback,
    Checkpoints,
    LastBlockCallback,
    ResumeCallback,
    can_save,
    drop_replay,
    lengths_of,
)
from sndqn.training.evaluating import evaluate_task
from sndqn.training.pace import EstimateCallback
from sndqn.training.signals import StopSignals, TrainingStopped
from sndqn.training.task_state import TaskState


@dataclass
class Session:
    """A run under way.

    Attributes:
        run: Its folder; several tasks have folders in it, each a run of its own.
        tasks: What is trained.
        store: Its checkpoints.
        console: Where to say what happens.
        stop: Says whether the user asked to stop.
    """

    run: RunFolder
    tasks: Sequence[TaskState]
    store: CheckpointStore
    console: Console
    stop: StopSignals

    def __post_init__(self) -> None:
        for state in self.tasks:
            label = state.task.label
            state.run = self.run.task(label) if label else self.run

    def __enter__(self) -> "Session":
        """Begins."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the run at its trackers, however it ends here."""
        for state in self.tasks:
            state.tracking.close()

    def learn(self, checkpoint: Checkpoint | None = None) -> None:
        """Trains, and notes in provenance.json which agents that left.

        Args:
            checkpoint: Where to go on from; None to begin.

        Raises:
            TrainingStopped: The user asked to stop; a checkpoint and the agents so far are saved.
        """
        for index, state in enumerate(self.tasks):
            state.open_folder(lengths_of(checkpoint, index) if checkpoint else None)
        with self._learning():
            self._make_callbacks(checkpoint)
            models = [state.model for state in self.tasks]
            callbacks = [state.callbacks for state in self.tasks]
            total = self.tasks[0].task.config.total_timesteps
            if len(models) > 1:
                MultiTask(models).learn(total, callbacks)
            else:
                models[0].learn(total, callbacks[0], None)
        agents = {
            str(state.run.agent.relative_to(self.run.path)): state.finish() for state in self.tasks
        }
        write_json(self.run.provenance, {**self.run.read_provenance(), "trained": agents})

    def evaluate(self) -> None:
        """Evaluates the agents that training left.

        Raises:
            TrainingStopped: The user asked to stop; what is left of it can be made another time.
        """
        try:
            for state in self.tasks:
                self.stop.check()
                if state.task.label:
                    say(self.console, f"{state.task.label}:")
                evaluate_task(state, self.stop)
        except TrainingStopped:
            say(
                self.console,
                "Training is finished and the agent saved; its evaluation is not. To go on with "
                f"it: sndqn train --resume {self.run.path}",
            )
            raise

    def finish(self) -> None:
        """Marks the run as finished, which nothing goes on with."""
        if not self.tasks[0].task.config.keep_checkpoints:
            drop_replay(self.store)
        write_json(self.run.provenance, {**self.run.read_provenance(), "finished": now()})

    def _make_callbacks(self, checkpoint: Checkpoint | None) -> None:
        """Makes each task's callbacks, and those of the whole run."""
        config = self.tasks[0].task.config
        for state in self.tasks:
            state.callbacks = task_callbacks(state, self.stop)
        checkpoints = Checkpoints(self.store, self.tasks)
        can_save_all = all(map(can_save, self.tasks))
        if not can_save_all:
            self._warn("No checkpoints: observations that are a dictionary cannot be saved")
        # Tasks take turns: while the first is between two blocks of steps, so are all others.
        between_blocks = self.tasks[0].callbacks
        every, total = config.checkpoint_every_timesteps, config.total_timesteps
        saved = checkpoints if can_save_all else None
        saver = CheckpointCallback(every, saved, self.stop, self._warn)
        between_blocks.append(saver)
        # The last task's last block ends all.
        self.tasks[-1].callbacks.append(LastBlockCallback(total, saver.save_last))
        acceleration = find_acceleration()
        if acceleration is not None and not config.threads and torch.get_num_threads() > 1:
            between_blocks.append(acceleration.ThreadsCallback(partial(say, self.console)))
        between_blocks.append(EstimateCallback(total, partial(say, self.console)))
        if checkpoint is not None:
            # They begin in order: when the last one does, all have.
            restore = partial(checkpoints.restore, checkpoint)
            self.tasks[-1].callbacks.insert(0, ResumeCallback(restore))

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """What must hold while agents learn, and how that ends."""
        # Numbers below 1e-38 are zero: moments of weights that have gone still would crawl else.
        torch.set_flush_denormal(True)
        try:
            yield
            self.stop.check()
        except TrainingStopped:
            for state in self.tasks:
                state.save()
            say(
                self.console,
                f"The agent so far is saved. To go on: sndqn train --resume {self.run.path}",
            )
            raise
        finally:
            torch.set_flush_denormal(False)
            for state in self.tasks:
                state.close()

    def _warn(self, text: str) -> None:
        say(self.console, text, style="yellow")
