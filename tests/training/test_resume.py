"""A run that is killed and taken up again ends as the one that was not, to the bit.

By default a share of the trials is made; `./scripts/test.sh --slow tests/training/test_resume.py`
makes all: every file operation of a small run, 200 random times of classic control and MinAtar, 20
of Atari, 6 of a compiled run.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_runs import (
    ATARI,
    COMPILED,
    SMALL,
    VARIANTS,
    finish,
    n_operations,
    outcome,
    start,
    the_run,
)
from safetensors.torch import load, save
from torch import Tensor

from sndqn.acceleration import compiler_available
from sndqn.agents import load_agent
from sndqn.errors import SndqnError
from sndqn.runs.checkpoint import CheckpointStore
from sndqn.training.run import resume

slow = pytest.mark.slow


class Reference:
    """An uninterrupted run: how it ended, and how long it took."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.settings = settings
        begun = time.monotonic()
        finish(folder, settings)
        self.seconds = time.monotonic() - begun
        self.operations = n_operations(folder)
        self.outcome = outcome(folder)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives the reference run of settings, made when first asked for."""
    made: dict[str, Reference] = {}

    def reference(name: str, settings: dict[str, Any]) -> Reference:
        if name not in made:
            made[name] = Reference(tmp_path_factory.mktemp("reference") / "runs", settings)
        return made[name]

    return reference


def killed_at_random(folder: Path, reference: Reference, draw: random.Random) -> int:
    """Kills a run up to three times, at uniform times, then lets it end; gives the kills."""
    kills = 0
    for _ in range(draw.randint(1, 3)):
        process = start(folder, reference.settings)
        process.join(draw.uniform(0, reference.seconds))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    if process.exitcode != 0:
        finish(folder, reference.settings)
    return kills


def trials(n: int, n_default: int) -> list[Any]:
    return [pytest.param(i, marks=[] if i < n_default else slow) for i in range(n)]


@pytest.mark.parametrize("share", trials(20, 1))
def test_killed_at_any_file_operation_it_ends_the_same(
    share: int, references: Any, tmp_path: Path
) -> None:
    reference = references("dqn", SMALL)
    assert reference.operations > 60
    fatal = list(range(1 + share, reference.operations + 1, 20))
    # By default a few of these; a run begins with the operations of its folder and configuration.
    for number in fatal if share else fatal[:: max(len(fatal) // 4, 1)]:
        folder = tmp_path / f"killed-at-{number}" / "runs"
        folder.parent.mkdir()
        process = start(folder, SMALL, number)
        process.join()
        assert process.exitcode == -9
        finish(folder, SMALL)
        assert outcome(folder) == reference.outcome, number
        shutil.rmtree(folder.parent)


@pytest.mark.parametrize("trial", trials(34, 1))
@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_at_any_time_it_ends_the_same(
    variant: str, trial: int, references: Any, tmp_path: Path
) -> None:
    reference = references(variant, VARIANTS[variant])
    killed_at_random(tmp_path / "runs", reference, random.Random(f"{variant}-{trial}"))
    assert outcome(tmp_path / "runs") == reference.outcome


@pytest.mark.parametrize("trial", trials(20, 1))
def test_an_atari_run_killed_at_any_time_ends_the_same(
    trial: int, references: Any, tmp_path: Path
) -> None:
    reference = references("atari", ATARI)
    killed_at_random(tmp_path / "runs", reference, random.Random(trial))
    assert outcome(tmp_path / "runs") == reference.outcome
    assert the_run(tmp_path / "runs") is not None


@slow
@pytest.mark.skipif(not compiler_available(), reason="no C++ compiler")
@pytest.mark.parametrize("trial", range(6))
def test_a_compiled_run_killed_at_any_time_ends_the_same(
    trial: int, references: Any, tmp_path: Path
) -> None:
    reference = references("compiled", COMPILED)
    killed_at_random(tmp_path / "runs", reference, random.Random(trial))
    assert outcome(tmp_path / "runs") == reference.outcome


def stopped(folder: Path, settings: dict[str, Any], signum: int, after: float = 0.0) -> Path:
    """Stops a run by a signal some seconds after its first record; gives its folder."""
    process = start(folder, settings)
    metrics: list[Path] = []
    while not metrics or not metrics[0].stat().st_size:
        time.sleep(0.02)
        metrics = list(folder.glob("*/*/metrics.jsonl"))
    time.sleep(after)
    asked = time.monotonic()
    assert process.pid is not None
    os.kill(process.pid, signum)
    process.join(30)
    assert process.exitcode == 128 + signum
    assert time.monotonic() - asked < 5
    return metrics[0].parent


SLOW_EVALUATION = {
    **SMALL, "env": "MinAtar/Freeway", "channels": "4", "eval_episodes": 2, "eval_max_steps": 5000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("signum", "settings", "after"),
    [
        (signal.SIGTERM, {**SMALL, "total_timesteps": 3000}, 0.0),
        pytest.param(signal.SIGINT, {**SMALL, "total_timesteps": 3000}, 0.5, marks=slow),
        pytest.param(signal.SIGTERM, SLOW_EVALUATION, 1.0, marks=slow),
    ],
)
def test_a_signal_stops_within_5_seconds_and_loses_no_step(
    signum: int, settings: dict[str, Any], after: float, references: Any, tmp_path: Path
) -> None:
    run = stopped(tmp_path / "runs", settings, signum, after)
    checkpoint = CheckpointStore(run).load_newest()
    assert checkpoint is not None
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert checkpoint.step >= records[-1]["timesteps"]
    assert load_agent(run / "agent.safetensors").description.timesteps == checkpoint.step
    finish(tmp_path / "runs", settings)
    reference = references(f"{settings['env']} {settings['total_timesteps']}", settings)
    assert outcome(tmp_path / "runs") == reference.outcome


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives a run of settings that was left in the middle, made when first asked for."""
    made: dict[str, Path] = {}

    def left_run(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("left") / "runs"
            process = start(folder, VARIANTS[name])
            while not list(folder.glob("*/*/checkpoints/step-*220/manifest.json")):
                time.sleep(0.005)
            process.kill()
            process.join()
            made[name] = folder
        return made[name]

    return left_run


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, Tensor):
        if value.dtype == torch.bool:
            return ~value
        return value + 1 if value.is_floating_point() else (value + 1).to(value.dtype)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return str(int(value) + 2) if value.isdigit() else f"{value}?"
    if value is None:
        return 1
    # Not one more everywhere: that random number happens to be one that is drawn and thrown away.
    return value - 1 if value > 500 else value + 1


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all single values in JSON data."""
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from leaves(data[key], (*path, key))
    else:
        yield path


# What is made anew before it is used, in the middle of these runs, and how it must be named here:
# the items that a checkpoint could do without. Each of the others must be seen.
MADE_ANEW = (
    r"lengths/(timing\.jsonl|0\.monitor\.csv)",  # what the clock said
    r"replay/chunk_slots",  # how frames lie in chunks, of which there is none yet
    r"replay/beta",  # follows from the progress, at each draw
    r"0/replay/sampled",  # the newest draw, whose priorities are set already
    r"0/replay/follows",  # asked for only where an observation is not the one expected
    r"0/model/policy/q_net_target\..*\.running_[uv]",  # copied with the weights at each update
    r"0/model/log/.*",  # the newest update's, for a record that comes before the next one
    r"logged/.*",  # as well: a checkpoint at the end needs it, which kills at the end show
    r"model/param_groups/0/lr",  # set before each update
    r"model/_current_progress_remaining",  # needed where a block is one step, as in "decay"
    r"model/_total_timesteps",  # the configuration's
    r"model/refilled_at",  # of a run that goes on without its replay: test_more.py
    r"model/exploration_rate",  # Rainbow has none; DQN's is set at each step
    r"model/random/actions/(has_uint32|uinteger)",  # half a random number, where one is left over
)


@pytest.mark.parametrize("share", trials(12, 1))
@pytest.mark.parametrize("variant", ["dqn", "rainbow"])
def test_leaving_out_any_item_of_a_checkpoint_is_seen(
    variant: str, share: int, references: Any, left: Any, tmp_path: Path
) -> None:
    reference = references(variant, VARIANTS[variant])
    store = CheckpointStore(the_run(left(variant)) or tmp_path)
    found = store.load_newest()
    assert found is not None
    tensors = load(found.files["state.safetensors"])
    items: list[Any] = [name for name in tensors if tensors[name].numel()]
    items += list(leaves(found.info["parts"][0]))
    assert len(items) > 100
    unseen = []
    for number, item in enumerate(items[share::12]):
        name = item if isinstance(item, str) else "/".join(map(str, item))
        if any(re.fullmatch(pattern, name) for pattern in MADE_ANEW):
            continue
        folder = tmp_path / str(number) / "runs"
        shutil.copytree(left(variant), folder)
        spoil(the_run(folder) or tmp_path, item)
        # Or it is refused: by whoever made the number, as torch its random state.
        with contextlib.suppress(SndqnError, ValueError, KeyError, RuntimeError):
            resume(the_run(folder) or tmp_path)
            if outcome(folder) == reference.outcome:
                unseen.append(name)
        shutil.rmtree(folder)
    assert not unseen


def spoil(run: Path, item: Any) -> None:
    """Changes one item of the newest checkpoint, a tensor by name or a value by its path."""
    store = CheckpointStore(run)
    found = store.load_newest()
    assert found is not None
    tensors = load(found.files["state.safetensors"])
    if isinstance(item, str):
        tensors[item] = changed(tensors[item])
    else:
        *way, last = item
        place = found.info["parts"][0]
        for key in way:
            place = place[key]
        place[last] = changed(place[last])
    store.save(found.step, {"state.safetensors": save(tensors)}, found.chunks, found.info)


def test_leaving_out_nothing_is_not(references: Any, left: Any, tmp_path: Path) -> None:
    shutil.copytree(left("dqn"), tmp_path / "runs")
    resume(the_run(tmp_path / "runs") or tmp_path)
    assert outcome(tmp_path / "runs") == references("dqn", SMALL).outcome
