"""Going on with a finished run: its end is moved, and what it left at the earlier end is kept.

provenance.json decides which end a run has, and is written at one stroke: a process that is killed
here leaves the run finished as it was, or under way to the later end.
"""

import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

from sndqn.console import say
from sndqn.errors import ConfigError, RunFolderError
from sndqn.files import write_json, write_text
from sndqn.files.atomic import TEMPORARY
from sndqn.runs.checkpoint import Checkpoint, CheckpointStore
from sndqn.runs.folder import RunFolder
from sndqn.training.checkpoints import has_replay
from sndqn.training.config import TrainConfig, make_config
from sndqn.training.config_files import read_config

_OF_ONE_END = ("finished", "trained", "kept")


def read_settings(run: RunFolder) -> TrainConfig:
    """Reads the settings of a run, of one task or several, to the end that it was given last."""
    config = make_config(read_config(str(_file(run))))
    further = run.read_provenance().get("more")
    return _until(config, further[-1]["to"]) if further else config


def move_end(run: RunFolder, timesteps: int, console: Console) -> None:
    """Makes a finished run one that is under way to a later end.

    Args:
        run: Its folder, locked.
        timesteps: How many steps later, over all tasks.
        console: Where to say what that means.

    Raises:
        RunFolderError: It has no checkpoint to go on from.
        ConfigError: So few steps would teach nothing.
    """
    before = read_settings(run)
    if timesteps < 1:
        raise ConfigError(f"more: expected a number of steps, 1 at least, found {timesteps}")
    config = _until(before, before.total_timesteps + timesteps)
    checkpoint = _last_checkpoint(run, config)
    if not has_replay(checkpoint):
        _check_refill(config, timesteps)
    for part in parts_of(run):
        _keep_earlier(part, before.total_timesteps)
    about = run.read_provenance()
    step: dict[str, Any] = {"from": before.total_timesteps, "to": config.total_timesteps}
    step["replay"] = "kept" if has_replay(checkpoint) else "refilled"
    step |= {name: about.pop(name) for name in _OF_ONE_END if name in about}
    about.setdefault("more", []).append(step)
    write_json(run.provenance, about)
    for text in _remarks(before, config, checkpoint):
        say(console, text, style="yellow")


def forget_earlier_end(run: RunFolder) -> None:
    """Removes what a training under way has not: an evaluation of its own, of an earlier end."""
    for part in parts_of(run):
        phases = [RunFolder(path) for path in part.path.glob("phase-*")]
        for folder in (part, *phases):
            folder.evaluation.unlink(missing_ok=True)
            folder.episodes.unlink(missing_ok=True)
        about = part.read_provenance()
        if about.pop("kept", None) is not None:
            write_json(part.provenance, about)
    if run.tasks.is_file():
        write_text(run.tasks, read_settings(run).to_yaml())


def parts_of(run: RunFolder) -> list[RunFolder]:
    """Returns the folders of a run's tasks; of one task the run's own."""
    if not run.tasks.is_file():
        return [run]
    return [RunFolder(found.parent) for found in sorted(run.path.glob("*/config.yaml"))]


def _file(run: RunFolder) -> Path:
    path: Path = run.tasks if run.tasks.is_file() else run.config
    return path


def _until(config: TrainConfig, total_timesteps: int) -> TrainConfig:
    return make_config({**config.model_dump(), "total_timesteps": total_timesteps})


def _last_checkpoint(run: RunFolder, config: TrainConfig) -> Checkpoint:
    store = CheckpointStore(run.path)
    found = store.load_newest(with_chunks=False)
    if found is None:
        raise RunFolderError(
            f"{run.path} keeps no checkpoint to go on from (runs of earlier versions, or with "
            f"observations that are a dictionary). To begin a new run with what it learnt, type "
            f"sndqn train --config {_file(run)} --init-from {run.path}"
        )
    return found


def _check_refill(config: TrainConfig, timesteps: int) -> None:
    """Refuses to go on for no longer than it takes to fill the replay again."""
    n_tasks = len(config.env_names)
    refill = max(config.learning_starts, config.batch_size) * n_tasks
    if timesteps <= refill:
        raise ConfigError(
            f"more: the replay was not kept, and {refill:,} steps fill it again before the next "
            f"update. Expected more than that, found {timesteps:,}: type --more {refill * 10}"
        )


def _keep_earlier(part: RunFolder, timesteps: int) -> None:
    """Copies what a training left to the folder of that end, which is there whole or not at all."""
    kept = part.earlier(timesteps)
    if kept.path.is_dir():  # of a call that was killed before the end was moved
        shutil.rmtree(kept.path)
    temporary = kept.path.with_name(f"{TEMPORARY}{kept.path.name}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in (part.path, *sorted(part.path.glob("phase-*"))):
            target = temporary if folder == part.path else temporary / folder.name
            target.mkdir(parents=True)
            for file in (part.agent, part.layers, part.evaluation, part.episodes):
                if (folder / file.name).is_file():
                    shutil.copyfile(folder / file.name, target / file.name)
        temporary.rename(kept.path)
    except OSError as error:
        raise RunFolderError(f"cannot write {kept.path}: {error.strerror}") from None


def _remarks(before: TrainConfig, config: TrainConfig, checkpoint: Checkpoint) -> list[str]:
    """Says where a longer training is not what it would have been from the start."""
    share = 1 - before.total_timesteps / config.total_timesteps
    lines = []
    if not has_replay(checkpoint):
        n = max(config.learning_starts, config.batch_size)
        lines.append(
            f"The replay was not kept: {n:,} steps of play without updates refill it first"
        )
    end = f"{config.total_timesteps:,}"
    if config.learning_rate_decay:
        rate = config.learning_rate * share
        lines.append(f"learning_rate_decay: goes on at {rate:.2g}, and reaches 0 at step {end}")
    if config.prioritized:
        beta = 1 - (1 - config.importance_exponent) * share
        lines.append(f"importance_exponent: goes on at {beta:.2g}, and reaches 1 at step {end}")
    return lines
