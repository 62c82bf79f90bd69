"""The composition root: everything a training run is made of, on one screen."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sndqn.console import say
from sndqn.files import sha256_of, write_json, write_text
from sndqn.runs.checkpoint import Checkpoint, CheckpointStore
from sndqn.runs.folder import RunFolder, differences, provenance
from sndqn.runs.lock import RunLock
from sndqn.training.build import build
from sndqn.training.config import TrainConfig
from sndqn.training.labels import run_label
from sndqn.training.more import forget_earlier_end, move_end, read_settings
from sndqn.training.plan import plan
from sndqn.training.session import Session
from sndqn.training.signals import StopSignals
from sndqn.training.task_state import TaskState


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
    tasks = plan(config)
    states = build(tasks, console)
    name = "+".join(task.settings.name for task in tasks)
    run = RunFolder.create(config.runs_dir, name, run_label(config, changed))
    with RunLock(run.path):
        _begin(run, states, config, console)
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
        _go_on(run, console)
    return run


@threads_restored()
def train_more(path: str | Path, timesteps: int, console: Console | None = None) -> RunFolder:
    """Goes on with a finished run for so many steps, over all tasks, and evaluates it again.

    The run's settings say the later end from then on. What it left at the earlier one is in
    earlier/N-steps/. With its whole checkpoint (`keep_checkpoints`) it goes on to the bit; else all
    but the replay does, which the agent's own play fills again before the next update.

    Raises:
        RunFolderError: There is none, it is not finished or in use, or it keeps no checkpoint.
        ConfigError: So few steps would teach nothing.
    """
    console = console or Console(quiet=True)
    run = RunFolder.open_finished(path)
    with RunLock(run.path):
        move_end(run, timesteps, console)
        _go_on(run, console)
    return run


@threads_restored()
def train_or_resume(config: TrainConfig, path: Path, console: Console | None = None) -> RunFolder:
    """Trains in the folder of this name, or goes on with the run that lies there.

    A finished run is left as it is. Of several processes that do this, one makes the run: whoever
    has its lock, under which it is looked what there is to do.

    Args:
        config: Settings of a run that is not there yet.
        path: The folder; it is made where there is none.
        console: Where to say what happens.

    Raises:
        RunInUseError: Another process makes the run.
        SndqnError: It cannot be made.
    """
    console = console or Console(quiet=True)
    run = RunFolder.at(path)
    with RunLock(run.path):
        if "finished" in run.read_provenance():
            return run
        if run.is_begun():
            _go_on(run, console)
        else:
            run.clean()
            _begin(run, build(plan(config), console), config, console)
    return run


def _begin(run: RunFolder, states: list[TaskState], config: TrainConfig, console: Console) -> None:
    """Trains and evaluates, in a folder that is locked."""
    with StopSignals() as stop:
        if len(states) > 1:
            write_text(run.tasks, config.to_yaml())
            write_json(run.provenance, provenance())
        with Session(run, states, CheckpointStore(run.path), console, stop) as session:
            session.learn()
            session.evaluate()
            session.finish()


def _go_on(run: RunFolder, console: Console) -> None:
    """Brings a run that was interrupted to its end, in a folder that is locked."""
    run.clean()
    store = CheckpointStore(run.path)
    store.clean()
    trained = _is_trained(run)
    if not trained:
        forget_earlier_end(run)
    checkpoint = None if trained else store.load_newest()
    if checkpoint is not None and not checkpoint.skipped:
        store.prune()  # what an interrupted save was about to remove
    states = build(plan(read_settings(run)), console, fresh=checkpoint is None and not trained)
    _note_resumption(run, checkpoint, trained, console)
    with StopSignals() as stop, Session(run, states, store, console, stop) as session:
        if not trained:
            session.learn(checkpoint)
        session.evaluate()
        session.finish()


def _is_trained(run: RunFolder) -> bool:
    """Returns whether a run's agents are those that its training left."""
    agents: dict[str, str] = run.read_provenance().get("trained", {})
    files = {run.path / name: digest for name, digest in agents.items()}
    return bool(files) and all(
        path.is_file() and sha256_of(path.read_bytes()) == digest for path, digest in files.items()
    )


def _note_resumption(
    run: RunFolder, checkpoint: Checkpoint | None, trained: bool, console: Console
) -> None:
    """Returns where a run goes on, and keeps that in provenance.json."""
    for line in [] if checkpoint is None else checkpoint.skipped:
        say(console, f"Passed over a damaged checkpoint, {line}", style="yellow")
    step = 0 if checkpoint is None else checkpoint.step
    where = "the evaluation" if trained else f"step {step:,}"
    say(console, f"Goes on from {where} of {run.path}")
    before = run.read_provenance()
    for line in differences(before):
        say(console, f"Not the same to the bit, perhaps: {line}", style="yellow")
    if before:
        place: dict[str, Any] = {"evaluation": True} if trained else {"step": step}
        before.setdefault("resumed", []).append({**place, **provenance()})
        write_json(run.provenance, before)
