"""Times checkpoints of a training whose replay is full: a million Atari transitions by default.

    python scripts/benchmark_checkpoint.py --output checkpoint.json

Fills the replay with real frames of Breakout under random play (10 000 transitions, over and over:
emulating a million takes long), saved ahead on the way as in a training, and measures: how long a
chunk of frames, and a whole checkpoint, keep training waiting; what lies on the disk; and how long
it takes to read the newest checkpoint and to restore from it.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from needs import need
from rich.console import Console

from sndqn.runs.checkpoint import CheckpointStore
from sndqn.runs.folder import RunFolder
from sndqn.training.build import build, task_callbacks
from sndqn.training.checkpoints import Checkpoints
from sndqn.training.config_files import layered_config
from sndqn.training.plan import plan
from sndqn.training.signals import StopSignals
from sndqn.training.task_state import TaskState


def make(folder: Path, transitions: int, n_envs: int) -> tuple[TaskState, Checkpoints]:
    """Makes the training of the shipped Breakout settings, its folder open, and its checkpoints."""
    flags = {
        "env": "Breakout", "sn_layers": "-2", "buffer_size": transitions, "n_envs": n_envs,
        "total_timesteps": 10 * transitions, "tensorboard": False, "threads": 2,
    }  # fmt: skip
    (state,) = build(plan(layered_config(flags)), Console(quiet=True))
    folder.mkdir(parents=True)
    state.run = RunFolder(folder)
    state.open_folder()
    state.callbacks = task_callbacks(state, StopSignals())
    return state, Checkpoints(CheckpointStore(folder), [state])


def record(state: TaskState, steps: int) -> list[tuple[Any, ...]]:
    """Plays so many vector steps at random; gives what the replay is to store."""
    model: Any = state.model
    draw = np.random.default_rng(0)
    recorded, before = [], model._last_obs
    for _ in range(steps):
        actions = draw.integers(model.action_space.n, size=model.n_envs)
        recorded.append((before, actions, *model.env.step(actions)))
        before = recorded[-1][2]
    return recorded


def store(
    state: TaskState, checkpoints: Checkpoints, recorded: Iterable[tuple[Any, ...]]
) -> list[float]:
    """Stores vector steps; gives the seconds that saving each chunk of frames took."""
    model: Any = state.model
    waits = []
    for model._last_obs, actions, new, rewards, dones, infos in recorded:
        model._store_transition(model.replay_buffer, actions, new, rewards, dones, infos)
        model.num_timesteps += model.n_envs
        begun = time.perf_counter()
        known = set(checkpoints._chunks[0])
        checkpoints.save_chunks()
        if set(checkpoints._chunks[0]) != known:
            waits.append(time.perf_counter() - begun)
    return waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transitions", type=int, default=1_000_000)
    parser.add_argument("--n-envs", type=int, default=8)
    parser.add_argument("--every", type=int, default=50_000, help="steps between checkpoints")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; a temporary one")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    need(output=options.output)
    torch.set_num_threads(2)
    root = options.folder or Path(tempfile.mkdtemp())
    state, checkpoints = make(root / "run", options.transitions, options.n_envs)
    model: Any = state.model
    model._setup_learn(10 * options.transitions)
    for callback in state.callbacks:
        callback.init_callback(model)
    # One update, so that the optimiser has its moments.
    recorded = record(state, 10_000 // options.n_envs)
    steps = cycle(recorded)
    chunk_waits = store(state, checkpoints, islice(steps, 100))
    model.train(1, model.batch_size)
    save_waits = []
    while model.num_timesteps < options.transitions + 3 * options.every:
        block = islice(steps, options.every // options.n_envs)
        chunk_waits += store(state, checkpoints, block)
        model._last_obs = recorded[-1][2]  # as the environments stand
        begun = time.perf_counter()
        checkpoints.save()
        save_waits.append(time.perf_counter() - begun)
        print(f"{model.num_timesteps:,} steps: checkpoint in {save_waits[-1]:.2f} s", flush=True)
    run = root / "run"
    newest = max((run / "checkpoints").iterdir())
    sizes = [
        sum(file.stat().st_size for file in folder.iterdir()) for folder in (newest, run / "chunks")
    ]
    last = model.q_net.state_dict()
    state.close()
    del state, checkpoints
    again, resumed = make(root / "again", options.transitions, options.n_envs)
    resumed.store = CheckpointStore(run)
    again.model._setup_learn(10 * options.transitions)
    begun = time.perf_counter()
    found = resumed.store.load_newest()
    assert found is not None
    read = time.perf_counter() - begun
    resumed.restore(found)
    restored = time.perf_counter() - begun - read
    assert all(torch.equal(value, last[n]) for n, value in again.model.q_net.state_dict().items())
    again.close()
    result = {
        "transitions": options.transitions,
        "environments": options.n_envs,
        "steps_between_checkpoints": options.every,
        "seconds_per_chunk_median": round(statistics.median(chunk_waits), 3),
        "seconds_per_chunk_largest": round(max(chunk_waits), 3),
        "chunks_per_checkpoint": round(len(chunk_waits) / len(save_waits), 1),
        "seconds_per_checkpoint_when_full_median": round(statistics.median(save_waits[-3:]), 3),
        "seconds_per_checkpoint_largest": round(max(save_waits), 3),
        "checkpoint_megabytes": round(sizes[0] / 1e6, 1),
        "chunks_megabytes": round(sizes[1] / 1e6, 1),
        "frames_megabytes_uncompressed": round(options.transitions * 84 * 84 / 1e6, 1),
        "seconds_to_read_and_check": round(read, 1),
        "seconds_to_restore": round(restored, 1),
    }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    if options.folder is None:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
