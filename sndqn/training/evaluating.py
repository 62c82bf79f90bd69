"""Evaluating what was trained: how, and what is said of each game."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rich.console import Console

from sndqn.agents import Agent, load_agent
from sndqn.agents.evaluations import write_evaluation
from sndqn.console import Pulse, say
from sndqn.diagnostics import layer_norms
from sndqn.envs import EnvSettings
from sndqn.evaluation import EvaluationProtocol, EvaluationRecord, evaluate
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
    """Returns the protocol of an agent's training; that of the defaults, where nobody knows it.

    Args:
        agent: The agent.
        folder: Where it lies; a run's has the configuration.
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
        TrainingStopped: Someone asked to stop; evaluations that are whole are written.
    """
    run, console, protocol = state.run, state.console, evaluation_protocol(state.task.config)
    agent = load_agent(run.agent)
    write_layers(run, after=layer_norms(agent.network, agent.network.observation_space))
    *earlier, last = state.task.phases.values()
    for index, settings in enumerate(earlier):
        say(console, f"Phase {index}: {settings.describe()}")
        write_evaluation(run.phase(index), play(agent, protocol, console, settings, stop))
    write_evaluation(run, play(agent, protocol, console, last, stop))


def play(
    agent: Agent,
    protocol: EvaluationProtocol,
    console: Console,
    settings: EnvSettings | None = None,
    stop: StopSignals | None = None,
) -> EvaluationRecord:
    """Plays the games of an evaluation, and says how each went.

    Args:
        agent: Who plays.
        protocol: How.
        console: Where to say how it goes.
        settings: Of the environment; the agent's by default.
        stop: Looked at before each action.

    Raises:
        TrainingStopped: Someone asked to stop.
    """

    def q_values(observation: Any) -> Any:
        if stop is not None:
            stop.check()
        return agent.q_values(observation)

    with Pulse(console) as pulse:
        record = evaluate(
            settings or agent.description.settings,
            q_values,
            protocol,
            on_episode=episode_line(console, protocol.episodes),
            on_step=pulse.of_episodes(protocol.episodes),
            agent_sha256=agent.sha256,
        )
    say(
        console,
        f"Mean return {record.mean:.1f} ± {record.std:.1f} over {protocol.episodes} episodes "
        f"(ε {protocol.epsilon:g}, seed {protocol.seed}, whole games, raw scores)",
    )
    return record


def episode_line(console: Console, episodes: int) -> Callable[[int, Any], None]:
    """Returns the function that says how each evaluated episode went."""

    def show(episode: int, trace: Any) -> None:
        cut = "" if trace.ended_by == "terminated" else f" ({trace.ended_by})"
        console.print(
            f"episode {episode + 1}/{episodes}: return {trace.episode_return:g}, "
            f"{trace.length} steps{cut}",
            highlight=False,
        )

    return show
