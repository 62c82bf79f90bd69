"""Evaluating what was trained: how, and what is said of each game."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sndqn.agents import Agent, load_agent
from sndqn.agents.evaluations import unfinished_file, write_evaluation
from sndqn.console import Bar, EpisodeCount, say
from sndqn.diagnostics import layer_norms
from sndqn.envs import EnvSettings
from sndqn.evaluation import EvaluationProtocol, EvaluationRecord, Trace, evaluate
from sndqn.evaluation.remarks import longest, remarks
from sndqn.evaluation.unfinished import forget
from sndqn.runs.folder import RunFolder
from sndqn.training.config import TrainConfig, make_config
from sndqn.training.config_files import read_config
from sndqn.training.layers import write_layers
from sndqn.training.settings import Evaluation
from sndqn.training.signals import StopSignals
from sndqn.training.task_state import TaskState


def evaluation_protocol(config: TrainConfig) -> EvaluationProtocol:
    """Returns how a configuration's agents are evaluated."""
    settings = config.section(Evaluation)
    return EvaluationProtocol(**{n.removeprefix("eval_"): value for n, value in settings.items()})


def protocol_of(agent: Agent, folder: RunFolder) -> EvaluationProtocol:
    """Returns the protocol of an agent's training; that of the defaults, if it is unknown.

    Args:
        agent: The agent.
        folder: Its folder; a run's has the configuration.
    """
    if folder.config.is_file():
        return evaluation_protocol(make_config(read_config(str(folder.config))))
    about = agent.description
    default = evaluation_protocol(TrainConfig(env=about.settings.name))
    return replace(default, epsilon=about.eval_epsilon)


def evaluate_task(state: TaskState, stop: StopSignals) -> None:
    """Evaluates the agent that a task left, in every phase of its environment.

    Writes the layers' norms after training, and each evaluation with a trace of every episode: the
    last phase's is the run's own.

    Raises:
        TrainingStopped: The user asked to stop; evaluations that are whole are written.
    """
    run, console, protocol = state.run, state.console, evaluation_protocol(state.task.config)
    agent = load_agent(run.agent)
    write_layers(run, after=layer_norms(agent.network, agent.network.observation_space))
    *earlier, last = state.task.phases.values()
    for index, settings in enumerate(earlier):
        say(console, f"Phase {index}: {settings.describe()}")
        _evaluate_into(run.phase(index), agent, protocol, console, settings, stop)
    record = _evaluate_into(run, agent, protocol, console, last, stop)
    state.tracking.log(agent.description.timesteps, {"evaluation/mean_return": record.mean})


def _evaluate_into(
    folder: RunFolder,
    agent: Agent,
    protocol: EvaluationProtocol,
    console: Console,
    settings: EnvSettings,
    stop: StopSignals,
) -> EvaluationRecord:
    unfinished = unfinished_file(folder)
    record = play(agent, protocol, console, settings, stop, unfinished)
    write_evaluation(folder, record)
    forget(unfinished)
    return record


def play(
    agent: Agent,
    protocol: EvaluationProtocol,
    console: Console,
    settings: EnvSettings | None = None,
    stop: StopSignals | None = None,
    unfinished: Path | None = None,
) -> EvaluationRecord:
    """Plays the games of an evaluation, and says how each went.

    Args:
        agent: Who plays.
        protocol: How.
        console: Where to say how it goes.
        settings: Of the environment; the agent's by default.
        stop: Looked at after each step.
        unfinished: Keeps finished episodes, see `evaluate`.

    Raises:
        TrainingStopped: The user asked to stop.
    """
    settings = settings or agent.description.settings
    show = episode_line(console, protocol.episodes)
    with Bar(console, "evaluating: ") as bar:
        count = EpisodeCount(bar, protocol.episodes, longest(protocol, settings))

        def on_step(episode: int, steps: int) -> None:
            count.on_step(episode, steps)
            if stop is not None:
                stop.check()

        def on_episode(episode: int, trace: Trace) -> None:
            count.on_episode(episode, trace)
            show(episode, trace)

        try:
            record = evaluate(
                settings,
                agent.values,
                protocol,
                on_episode=on_episode,
                on_step=on_step,
                agent_sha256=agent.sha256,
                unfinished=unfinished,
            )
        except KeyboardInterrupt:
            if unfinished is not None:
                say(console, f"{count.done} of {protocol.episodes} episodes are over, and kept")
            raise
    say(
        console,
        f"Mean return {record.mean:.1f} ± {record.std:.1f} over {protocol.episodes} episodes "
        f"(ε {protocol.epsilon:g}, seed {protocol.seed}, whole games, raw scores)",
    )
    for remark in remarks(record, settings):
        say(console, remark, style="yellow")
    return record


def episode_line(console: Console, episodes: int) -> Callable[[int, Trace], None]:
    """Returns the function that says how each evaluated episode went."""

    def show(episode: int, trace: Trace) -> None:
        cut = "" if trace.ended_by == "terminated" else f" ({trace.ended_by})"
        console.print(
            f"episode {episode + 1}/{episodes}: return {trace.episode_return:g}, "
            f"{trace.length} steps{cut}",
            highlight=False,
        )

    return show
