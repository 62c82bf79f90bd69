"""A task in training: its algorithm, what happens every so often, and the folder it leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from sndqn.agents import AgentDescription, save_agent
from sndqn.algorithms import ValueBasedAlgorithm
from sndqn.console import say
from sndqn.diagnostics import layer_norms
from sndqn.diagnostics.tables import layer_table
from sndqn.envs.journal import JournalVecEnv
from sndqn.files import write_json, write_text
from sndqn.networks import NetworkSpec
from sndqn.runs.folder import RunFolder, provenance
from sndqn.runs.metrics import (
    MetricsPaths,
    MetricsWriter,
    last_step,
    make_logger,
    rebuild_tensorboard,
    truncate,
)
from sndqn.runs.tracking import Tracking
from sndqn.training.callbacks import EvaluationCallback, ProgressCallback, StatefulCallback
from sndqn.training.diagnosing import can_diagnose
from sndqn.training.layers import write_layers
from sndqn.training.plan import Task


@dataclass
class TaskState:
    """A task in training.

    Attributes:
        task: What is to be learnt.
        model: The algorithm, whose environments keep a journal.
        network: Its network's description.
        console: Where to say what happens.
        run: The folder, set before training.
        callbacks: What happens every so often, once training begins; the same and in the same order
            whenever the task is made.
        tracking: Where its records go as well.
    """

    task: Task
    model: ValueBasedAlgorithm
    network: NetworkSpec
    console: Console
    run: RunFolder = field(init=False)
    callbacks: list[BaseCallback] = field(default_factory=list)
    tracking: Tracking = field(default_factory=Tracking)

    @property
    def journal(self) -> JournalVecEnv:
        """The environments."""
        assert isinstance(self.model.env, JournalVecEnv)
        return self.model.env

    @property
    def metrics(self) -> MetricsWriter:
        """What writes the metrics, once the folder is open."""
        (writer,) = self.model.logger.output_formats
        assert isinstance(writer, MetricsWriter)
        return writer

    @property
    def stateful_callbacks(self) -> dict[str, StatefulCallback]:
        """The callbacks that have a state, by name."""
        found = [each for each in self.callbacks if isinstance(each, StatefulCallback)]
        return {type(each).__name__: each for each in found}

    def open_folder(self, lengths: Mapping[str, int] | None = None) -> None:
        """Writes down what is known before training, or cuts the metrics to go on from.

        Args:
            lengths: Bytes of each metrics file at the checkpoint to go on from; None at the
                beginning.
        """
        config, model, run = self.task.config, self.model, self.run
        if lengths is None:
            before = layer_norms(model.q_net, model.observation_space)
            self.console.print(layer_table(model.q_net, before))
        write_text(run.config, config.to_yaml())  # of a run that goes on for longer, another
        if lengths is None:
            write_json(run.provenance, provenance())
            write_layers(run, before=before)
            self.save()  # it can be watched from now on
        sent = -1 if lengths is None else last_step(run.metrics)
        self.tracking = Tracking(config.track, run, config.model_dump(mode="json"), sent)
        for path in (run.metrics, run.timing, run.games, run.diagnostics):
            if path.exists():
                truncate(path, 0 if lengths is None else lengths.get(path.name, 0))
        tensorboard = run.tensorboard if config.tensorboard else None
        if tensorboard is not None and run.metrics.exists():
            rebuild_tensorboard(run.metrics, run.timing, tensorboard, run.diagnostics)
        diagnostics = run.diagnostics if can_diagnose(config.diagnostics, model) else None
        paths = MetricsPaths(run.metrics, run.timing, tensorboard, run.games, diagnostics)
        model.set_logger(make_logger(paths, self.tracking.log))
        say(self.console, f"Run folder: {run.path}")
        if model.will_compile(config.total_timesteps):
            say(
                self.console,
                "The first update compiles all others, which takes up to a minute "
                "(--compile never leaves it out).",
            )

    def finish(self) -> str:
        """Writes the agent that training leaves, the last network or the best on the way.

        Returns:
            The SHA-256 of its file.
        """
        kept = None
        for callback in self.callbacks:
            if isinstance(callback, EvaluationCallback):
                kept = callback.restore_best()
        if kept is None:
            return self.save()
        step, mean_return = kept
        say(
            self.console,
            f"Kept: the network of step {step:,} of {self.model.num_timesteps:,}, the best of the "
            f"evaluations on the way (mean return {mean_return:.1f})",
        )
        about = {**self.run.read_provenance(), "kept": {"step": step, "mean_return": mean_return}}
        write_json(self.run.provenance, about)
        return self.save(step)

    def save(self, step: int | None = None) -> str:
        """Writes the agent as it is.

        Args:
            step: The one its weights are of; None for the newest.

        Returns:
            The SHA-256 of its file.
        """
        timesteps = self.model.num_timesteps if step is None else step
        description = describe_agent(self.task, self.network, timesteps)
        return save_agent(self.run.agent, self.model.q_net.state_dict(), description)

    def close(self) -> None:
        """Closes the metrics, the progress bar and the environments."""
        for callback in self.callbacks:
            if isinstance(callback, ProgressCallback):
                callback.close()
        self.model.logger.close()
        self.journal.close()


def describe_agent(task: Task, network: NetworkSpec, timesteps: int) -> AgentDescription:
    """Describes the agent that a task leaves after so many steps: one of the last phase."""
    config = task.config
    return AgentDescription(
        settings=list(task.phases.values())[-1],
        network=network,
        algo=config.algo,
        timesteps=timesteps,
        seed=config.seed,
        eval_epsilon=config.eval_epsilon,
        title=config.title,
    )
