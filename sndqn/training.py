"""The composition root: everything a training run is made of, on one screen."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sndqn.algorithms import MultiTask
from sndqn.components import (
    env_phases,
    make_callbacks,
    make_model,
    network_spec,
    protocol,
    task_configs,
    task_names,
)
from sndqn.config import TrainConfig
from sndqn.diagnostics import LayerNorm, layer_norms
from sndqn.envs import EnvSettings, make_vec_env
from sndqn.evaluation import EvaluationProtocol, EvaluationRecord, evaluate, write_trace
from sndqn.report import layer_table
from sndqn.runs.folder import RunFolder, provenance, write_bytes, write_json
from sndqn.runs.metrics import make_logger
from sndqn.transfer import start_from
from sndqn.zoo import AgentDescription, load_agent, save_agent


def train(config: TrainConfig, console: Console | None = None) -> RunFolder:
    """Trains an agent, evaluates it, and leaves everything in a new run folder.

    Ctrl-C ends training early: the agent so far is saved, the evaluation left out, and
    KeyboardInterrupt passes on.
    """
    console = console or Console(quiet=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    if len(task_names(config)) > 1:
        return _train_tasks(config, console)
    session = Session(config, console)
    run = session.open_run()
    with _training([session]):
        session.model.learn(
            config.total_timesteps, make_callbacks(config, session.phases, console), None
        )
    session.save()
    session.evaluate()
    return run


def _train_tasks(config: TrainConfig, console: Console) -> RunFolder:
    """Trains one agent a task, with a common torso, each in a folder of its own within the run's.

    What counts steps in the configuration, but for `total_timesteps`, counts each task's own.
    """
    sessions = [Session(task, console) for task in task_configs(config)]
    tasks = MultiTask([session.model for session in sessions])
    names = [session.phases[0].name for session in sessions]
    run = RunFolder.create(config.runs_dir, "+".join(names), sessions[0].label)
    for session in sessions:
        session.open_run(inside=run)
    with _training(sessions):
        tasks.learn(
            sessions[0].config.total_timesteps,
            [
                make_callbacks(session.config, session.phases, console, label=name)
                for session, name in zip(sessions, names, strict=True)
            ],
        )
    for session in sessions:
        session.save()
    for session in sessions:
        session.say(f"{session.phases[0].name}:")
        session.evaluate()
    return run


@contextmanager
def _training(sessions: list["Session"]) -> Iterator[None]:
    """Runs the training of some sessions: what must hold during it, and how it ends."""
    # Numbers below 1e-38 are zero: moments of weights that have gone still would crawl otherwise.
    torch.set_flush_denormal(True)
    try:
        yield
    except KeyboardInterrupt:
        for session in sessions:
            session.save()
        raise
    finally:
        torch.set_flush_denormal(False)
        for session in sessions:
            session.close()


class Session:
    """One agent in training: what the configuration means, and the folder it leaves.

    Args:
        config: Its configuration.
        console: Where to say what happens.

    Attributes:
        phases: The environment's settings by the step from which they hold.
        network: The network's description.
        model: The algorithm.
        run: The folder, once opened.
    """

    run: RunFolder

    def __init__(self, config: TrainConfig, console: Console) -> None:
        self.config, self.console = config, console
        self.phases = env_phases(config)
        self.say(self.phases[0].describe())
        env = make_vec_env(self.phases[0], config.n_envs, seed=config.seed)
        network = network_spec(config, env.observation_space)
        self.model = make_model(config, env, network)
        policy: Any = self.model.policy
        self.network = replace(
            network,
            torso_kwargs=dict(policy.features_extractor_kwargs),
            head_kwargs=self.model.head_kwargs(),
            net_arch=tuple(policy.net_arch),
        )
        if config.init_from is not None:
            new = start_from(policy, load_agent(agent_file(config.init_from)))
            self.say(f"Starts from {config.init_from}; new layers: {', '.join(new) or 'none'}")

    @property
    def label(self) -> str:
        """Names the run's folder, before the time."""
        config = self.config
        return f"{config.algo}-sn{config.sn_layers.replace('.', '_')}-seed{config.seed}"

    def say(self, text: str) -> None:
        """Prints a line."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def open_run(self, inside: RunFolder | None = None) -> RunFolder:
        """Makes the folder and writes down what is known before training.

        Args:
            inside: Folder of a run of several tasks, to make this one's in.
        """
        config, model = self.config, self.model
        before = layer_norms(model.q_net, model.observation_space)
        self.console.print(layer_table(before))
        name = self.phases[0].name
        self.run = run = (
            RunFolder.create(config.runs_dir, name, self.label)
            if inside is None
            else inside.task(name)
        )
        write_bytes(run.config, config.to_yaml().encode())
        write_json(run.provenance, provenance())
        write_json(run.layers, {"before": [asdict(row) for row in before]})
        model.set_logger(make_logger(run.metrics, run.tensorboard if config.tensorboard else None))
        self.say(f"Run folder: {run.path}")
        if model.will_compile(config.total_timesteps):
            self.say(
                "The first update compiles all others, which takes up to half a minute "
                "(--compile never leaves it out)."
            )
        return run

    def save(self) -> str:
        """Writes the agent as it is."""
        config, model = self.config, self.model
        description = AgentDescription(
            list(self.phases.values())[-1],
            self.network,
            config.algo,
            model.num_timesteps,
            config.seed,
            config.eval_epsilon,
        )
        return save_agent(self.run.agent, model.q_net.state_dict(), description)

    def close(self) -> None:
        """Closes the metrics and the environments."""
        self.model.logger.close()
        assert self.model.env is not None
        self.model.env.close()

    def evaluate(self) -> None:
        """Evaluates the saved agent, in every phase of its environment, and measures its layers."""
        agent = load_agent(self.run.agent)
        after = layer_norms(agent.network, agent.network.observation_space)
        layers = json.loads(self.run.layers.read_text())
        write_json(self.run.layers, {**layers, "after": [asdict(row) for row in after]})
        *earlier, _ = self.phases.values()
        for index, settings in enumerate(earlier):
            self.say(f"Phase {index}: {settings.describe()}")
            evaluate_run(self.run, protocol(self.config), self.console, index, settings)
        evaluate_run(self.run, protocol(self.config), self.console)


def agent_file(path: str) -> Path:
    """Finds the agent of a run's folder, or takes an agent file as it is."""
    given = Path(path)
    return given if given.suffix == ".safetensors" else RunFolder.open(path).agent


def evaluate_run(
    run: RunFolder,
    evaluation: EvaluationProtocol,
    console: Console | None = None,
    phase: int | None = None,
    settings: EnvSettings | None = None,
) -> EvaluationRecord:
    """Evaluates the agent of a run; writes evaluation.json and a trace of every episode.

    Args:
        run: Whose.
        evaluation: How.
        console: Where to say how it goes.
        phase: Number of a phase of the environment, to write in its own folder; None for the last.
        settings: Of the environment; the agent's by default.
    """
    console = console or Console(quiet=True)
    agent = load_agent(run.agent)
    show = episode_line(console, evaluation.episodes)
    record = evaluate(
        settings or agent.description.settings,
        agent.q_values,
        evaluation,
        on_episode=show,
        agent_sha256=agent.sha256,
    )
    if phase is not None:
        run = run.phase(phase)
    run.traces.mkdir(exist_ok=True)
    for old in run.traces.glob("episode-*.trace.json"):
        old.unlink()
    for episode, trace in enumerate(record.traces):
        write_trace(run.trace(episode), trace)
    write_json(run.evaluation, record.to_dict())
    console.print(
        f"Mean return {record.mean:.1f} ± {record.std:.1f} over {evaluation.episodes} episodes "
        f"(ε {evaluation.epsilon:g}, seed {evaluation.seed}, whole games, raw scores)",
        highlight=False,
        soft_wrap=True,
    )
    return record


def episode_line(console: Console, episodes: int) -> Callable[[int, Any], None]:
    """Makes the function that says how each evaluated episode went."""

    def show(episode: int, trace: Any) -> None:
        cut = "" if trace.ended_by == "terminated" else f" ({trace.ended_by})"
        console.print(
            f"episode {episode + 1}/{episodes}: return {trace.episode_return:g}, "
            f"{trace.length} steps{cut}",
            highlight=False,
        )

    return show


def read_layers(run: RunFolder) -> dict[str, list[LayerNorm]]:
    """Reads a run's table of norms before and, if it ended, after training."""
    data = json.loads(run.layers.read_text())
    return {
        when: [LayerNorm(**{**row, "shape": tuple(row["shape"])}) for row in rows]
        for when, rows in data.items()
    }
