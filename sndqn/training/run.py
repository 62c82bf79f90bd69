"""The composition root: everything a training run is made of, on one screen."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sndqn.agents import load_agent
from sndqn.agents.evaluations import write_evaluation
from sndqn.algorithms import MultiTask
from sndqn.algorithms.acceleration import find_acceleration
from sndqn.diagnostics import LayerNorm, layer_norms
from sndqn.envs import EnvSettings
from sndqn.evaluation import EvaluationProtocol, EvaluationRecord
from sndqn.files import sha256_of, write_json, write_text
from sndqn.runs.checkpoint import Checkpoint, CheckpointStore
from sndqn.runs.folder import RunFolder, differences, now, provenance
from sndqn.runs.lock import RunLock
from sndqn.training.components import make_callbacks, task_configs
from sndqn.training.config import TrainConfig, make_config
from sndqn.training.config_files import read_config
from sndqn.training.evaluating import evaluation_protocol, play
from sndqn.training.labels import run_label
from sndqn.training.resume import (
    CheckpointCallback,
    Checkpoints,
    Part,
    ResumeCallback,
    can_save,
    lengths_of,
)
from sndqn.training.session import Session
from sndqn.training.signals import StopSignals, TrainingStopped


@contextmanager
def threads_restored() -> Iterator[None]:
    """Leaves torch with as many threads as it had before."""
    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


@threads_restored()
def train(
    config: TrainConfig, console: Console | None = None, changed: Iterable[str] = ()
) -> RunFolder:
    """Trains an agent, evaluates it, and leaves everything in a new run folder.

    The folder is called after the configuration, SN and the settings named in `changed`.

    Ctrl-C or SIGTERM ends training early: a checkpoint and the agent so far are saved, the
    evaluation is left out, and `TrainingStopped`, a KeyboardInterrupt, passes on.
    """
    console = console or Console(quiet=True)
    sessions = _sessions(config, console)
    names = [session.phases[0].name for session in sessions]
    run = RunFolder.create(config.runs_dir, "+".join(names), run_label(config, changed))
    with RunLock(run.path):
        if len(sessions) > 1:
            write_text(run.tasks, config.to_yaml())
            write_json(run.provenance, provenance())
        _train(sessions, run, CheckpointStore(run.path))
    return run


@threads_restored()
def resume(path: str | Path, console: Console | None = None) -> RunFolder:
    """Goes on with a run that was interrupted, to the same end as if it had not been.

    Bit for bit, that is, on the same kind of machine, with the same versions and threads.

    Raises:
        RunFolderError: There is none, it is finished or in use, or no checkpoint of it is whole.
    """
    console = console or Console(quiet=True)
    run = RunFolder.open_unfinished(path)
    with RunLock(run.path):
        run.clean()
        before = run.read_provenance()
        trained = _is_trained(run, before)
        store = CheckpointStore(run.path)
        store.clean()
        checkpoint = None if trained else store.load_newest()
        if checkpoint is not None and not checkpoint.skipped:
            store.prune()  # what an interrupted save was about to remove
        several = run.tasks.is_file()
        config = make_config(read_config(str(run.tasks if several else run.config)))
        sessions = _sessions(config, console, fresh=checkpoint is None and not trained)
        for line in [] if checkpoint is None else checkpoint.skipped:
            sessions[0].warn(f"Passed over a damaged checkpoint, {line}")
        step = 0 if checkpoint is None else checkpoint.step
        where = "the evaluation" if trained else f"step {step:,}"
        sessions[0].say(f"Goes on from {where} of {run.path}")
        for line in differences(before):
            sessions[0].warn(f"Not the same to the bit, perhaps: {line}")
        if before:
            place = {"evaluation": True} if trained else {"step": step}
            before.setdefault("resumed", []).append({**place, **provenance()})
            write_json(run.provenance, before)
        _train(sessions, run, store, checkpoint, trained)
    return run


def _sessions(config: TrainConfig, console: Console, fresh: bool = True) -> list[Session]:
    """Makes what a configuration asks for; several tasks count their own steps each."""
    default = torch.get_num_threads()
    # The first weights' σ is found on one thread, so that it hangs on no machine's number.
    torch.set_num_threads(config.threads or 1)
    tasks = task_configs(config) if len(config.env_names) > 1 else [config]
    sessions = [Session(task, console, fresh) for task in tasks]
    if not config.threads:
        torch.set_num_threads(default)
        acceleration = find_acceleration()
        if acceleration is not None:
            acceleration.choose_threads(session.model for session in sessions)
    return sessions


def _train(
    sessions: list[Session],
    run: RunFolder,
    store: CheckpointStore,
    checkpoint: Checkpoint | None = None,
    trained: bool = False,
) -> None:
    """Trains from the beginning or a checkpoint, evaluates, and marks the run as finished."""
    for session in sessions:
        session.run = run.task(session.phases[0].name) if len(sessions) > 1 else run
    with StopSignals() as stop:
        if not trained:
            _learn(sessions, run, store, checkpoint, stop)
        _evaluate(sessions, run, stop)
    write_json(run.provenance, {**run.read_provenance(), "finished": now()})
    if not sessions[0].config.keep_checkpoints:
        store.remove()


def _learn(
    sessions: list[Session],
    run: RunFolder,
    store: CheckpointStore,
    checkpoint: Checkpoint | None,
    stop: StopSignals,
) -> None:
    """Trains, and notes in provenance.json which agents that left."""
    first, last = sessions[0], sessions[-1]
    total, several = first.config.total_timesteps, len(sessions) > 1
    for index, session in enumerate(sessions):
        session.open_run(lengths_of(checkpoint, index) if checkpoint else None)
    with _training(sessions, run, stop):
        for session in sessions:
            session.callbacks = make_callbacks(
                session.config,
                session.phases,
                session.console,
                stop,
                session.phases[0].name if several else "",
            )
        checkpoints = Checkpoints(store, [Part(each.model, each.callbacks) for each in sessions])
        save, save_ahead = checkpoints.save, checkpoints.save_chunks
        if not all(can_save(each.model) for each in sessions):
            first.warn("No checkpoints: observations that are a dictionary cannot be saved")
            save = save_ahead = _save_nothing
        every = first.config.checkpoint_every_timesteps
        # What the first learner does between two blocks, all others do not: between blocks as well.
        first.callbacks.append(CheckpointCallback(every, total, save, save_ahead, stop, first.warn))
        acceleration = find_acceleration()
        if acceleration is not None and not first.config.threads and torch.get_num_threads() > 1:
            first.callbacks.append(acceleration.ThreadsCallback(first.say))
        if checkpoint is not None:
            # When the last learner begins, all have.
            restore = partial(checkpoints.restore, checkpoint)
            last.callbacks.insert(0, ResumeCallback(restore))
        if several:
            learners = MultiTask([session.model for session in sessions])
            learners.learn(total, [session.callbacks for session in sessions])
        else:
            first.model.learn(total, first.callbacks, None)
    agents = {
        str(session.run.agent.relative_to(run.path)): session.finish() for session in sessions
    }
    write_json(run.provenance, {**run.read_provenance(), "trained": agents})


def _is_trained(run: RunFolder, about: dict[str, Any]) -> bool:
    """Says whether a run's agents are those that its training left."""
    agents: dict[str, str] = about.get("trained", {})
    files = {run.path / name: digest for name, digest in agents.items()}
    return bool(files) and all(
        path.is_file() and sha256_of(path.read_bytes()) == digest for path, digest in files.items()
    )


def _evaluate(sessions: list[Session], run: RunFolder, stop: StopSignals) -> None:
    """Evaluates the agents of a run; a signal ends that, to be made another time."""
    try:
        for session in sessions:
            stop.check()
            if len(sessions) > 1:
                session.say(f"{session.phases[0].name}:")
            evaluate_session(session, stop)
    except TrainingStopped:
        sessions[0].say(
            "Training is finished and the agent saved; its evaluation is not. To go on with it: "
            f"sndqn train --resume {run.path}"
        )
        raise


def _save_nothing() -> None:
    """Stands in for a checkpoint where there can be none."""


@contextmanager
def _training(sessions: list[Session], run: RunFolder, stop: StopSignals) -> Iterator[None]:
    """Runs the training of some sessions: what must hold during it, and how it ends."""
    # Numbers below 1e-38 are zero: moments of weights that have gone still would crawl otherwise.
    torch.set_flush_denormal(True)
    try:
        yield
        stop.check()
    except TrainingStopped:
        for session in sessions:
            session.save()
        sessions[0].say(f"The agent so far is saved. To go on: sndqn train --resume {run.path}")
        raise
    finally:
        torch.set_flush_denormal(False)
        for session in sessions:
            session.close()


def evaluate_session(session: Session, stop: StopSignals) -> None:
    """Evaluates a saved agent, in every phase of its environment, and measures its layers."""
    run, console = session.run, session.console
    evaluation = evaluation_protocol(session.config)
    agent = load_agent(run.agent)
    after = layer_norms(agent.network, agent.network.observation_space)
    layers = json.loads(run.layers.read_text())
    write_json(run.layers, {**layers, "after": [asdict(row) for row in after]})
    *earlier, _ = session.phases.values()
    for index, settings in enumerate(earlier):
        session.say(f"Phase {index}: {settings.describe()}")
        evaluate_run(run, evaluation, console, index, settings, stop)
    evaluate_run(run, evaluation, console, stop=stop)


def evaluate_run(
    run: RunFolder,
    evaluation: EvaluationProtocol,
    console: Console | None = None,
    phase: int | None = None,
    settings: EnvSettings | None = None,
    stop: StopSignals | None = None,
) -> EvaluationRecord:
    """Evaluates the agent of a run; writes its own evaluation, with a trace of every episode.

    Args:
        run: Whose.
        evaluation: How.
        console: Where to say how it goes.
        phase: Number of a phase of the environment, to write in its own folder; None for the last.
        settings: Of the environment; the agent's by default.
        stop: Looked at before each action.

    Raises:
        TrainingStopped: Someone asked to stop; nothing is written.
    """
    console = console or Console(quiet=True)
    agent = load_agent(run.agent)
    record = play(agent, evaluation, console, settings, stop)
    write_evaluation(run if phase is None else run.phase(phase), record)
    return record


def read_layers(run: RunFolder) -> dict[str, list[LayerNorm]]:
    """Reads a run's table of norms before and, if it ended, after training."""
    data = json.loads(run.layers.read_text())
    return {
        when: [LayerNorm(**{**row, "shape": tuple(row["shape"])}) for row in rows]
        for when, rows in data.items()
    }
