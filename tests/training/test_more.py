"""`sndqn train --more` goes on with a finished run, to where a longer one would have come."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_runs import (
    FORKS,
    SMALL,
    VARIANTS,
    Operations,
    n_operations,
    outcome,
    the_run,
)
from safetensors.torch import load_file

import sndqn
from sndqn import cli
from sndqn.agents import find_agent, load_agent
from sndqn.agents.evaluations import read_evaluation
from sndqn.errors import ConfigError, RunFolderError
from sndqn.runs.checkpoint import CheckpointStore
from sndqn.runs.folder import RunFolder
from sndqn.training.config import make_config
from sndqn.training.config_files import read_config
from sndqn.training.run import resume, train, train_more

slow = pytest.mark.slow
MORE = 260
WITHOUT = {**SMALL, "keep_checkpoints": False}


def trained(folder: Path, settings: dict[str, Any], **changes: Any) -> RunFolder:
    return train(make_config({**settings, **changes, "runs_dir": str(folder)}))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives copies of a finished run, with its whole checkpoint or without, made when asked for."""
    made: dict[bool, Path] = {}

    def copy(to: Path, whole: bool) -> RunFolder:
        if whole not in made:
            made[whole] = tmp_path_factory.mktemp("finished") / "runs"
            trained(made[whole], SMALL if whole else WITHOUT)
        shutil.copytree(made[whole], to)
        return RunFolder(the_run(to) or to)

    return copy


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return {
        f"{path.parent.name}/{name}" if path.parent != run.path else name: tensor
        for path in (run.agent, *sorted(run.path.glob("*/agent.safetensors")))
        if path.is_file()
        for name, tensor in load_file(path).items()
    }


def records(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


@pytest.mark.parametrize(
    "variant",
    [
        "dqn",
        pytest.param("m-iqn under a scheduler", marks=slow),
        pytest.param("changing dynamics", marks=slow),
        pytest.param("two tasks", marks=slow),
    ],
)
def test_with_its_whole_checkpoint_a_run_goes_on_as_if_it_had_been_longer(
    variant: str, tmp_path: Path
) -> None:
    settings = VARIANTS[variant]
    total = settings["total_timesteps"]
    more = trained(tmp_path / "more", settings)
    train_more(more.path, total)
    longer = trained(tmp_path / "longer", settings, total_timesteps=2 * total)
    found, expected = weights(more), weights(longer)
    assert found
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    if variant == "dqn":
        # ε, a share of the training times its length, may differ in the last digit; nothing else.
        eps = "rollout/exploration_rate"
        for one, other in zip(records(more), records(longer), strict=True):
            assert one.pop(eps) == pytest.approx(other.pop(eps), abs=1e-12)
            assert one == other
        assert more.evaluation.read_bytes() == longer.evaluation.read_bytes()
        assert [line.split(",")[0] for line in more.games.read_text().splitlines()[1:]] == [
            line.split(",")[0] for line in longer.games.read_text().splitlines()[1:]
        ]


def test_without_its_replay_all_else_goes_on_and_the_replay_is_filled_first(
    finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(tmp_path / "runs", False)
    checkpoint = CheckpointStore(run.path).load_newest()
    assert checkpoint is not None
    assert checkpoint.step == 400
    assert not any("/replay/" in name for name in _tensors(checkpoint.files["state.safetensors"]))
    before = records(run)
    assert cli.main(["train", "--more", str(MORE), str(run.path)]) == 0
    said = capsys.readouterr().out
    assert "The replay was not kept: 60 steps of play without updates refill it first" in said
    after = records(run)
    # One update for two steps, but for the 60 that fill the replay.
    first, last = before[-1], after[-1]
    assert last["timesteps"] == 660
    assert last["train/n_updates"] == first["train/n_updates"] + (MORE - 60) / 2
    assert after[: len(before) - 1] == before[:-1]  # the last is of the earlier end


def _tensors(content: bytes) -> list[str]:
    from safetensors.torch import load

    return list(load(content))


def test_the_folder_says_that_the_run_went_on_and_keeps_what_it_was(
    finished: Any, tmp_path: Path
) -> None:
    run = finished(tmp_path / "runs", True)
    agent, evaluation = run.agent.read_bytes(), run.evaluation.read_bytes()
    again = sndqn.resume(run.path, more=MORE, verbose=False)
    assert again.config.total_timesteps == 660
    assert read_config(str(run.config))["total_timesteps"] == 660
    about = run.read_provenance()
    (step,) = about["more"]
    assert (step["from"], step["to"], step["replay"]) == (400, 660, "kept")
    assert step["finished"] <= about["finished"]
    assert step["kept"]["step"] <= 400
    assert load_agent(run.agent).description.timesteps in (420, 630)
    earlier = run.earlier(400)
    assert earlier.agent.read_bytes() == agent
    assert earlier.evaluation.read_bytes() == evaluation
    place = find_agent(str(earlier.path))
    record = read_evaluation(place.folder)
    assert record is not None
    assert record.agent_sha256 == place.load().sha256
    # And on once more.
    train_more(run.path, 100)
    assert [entry["to"] for entry in run.read_provenance()["more"]] == [660, 760]
    assert run.earlier(660).agent.is_file()


def go_on_in_process(folder: Path, fatal: int | None) -> None:
    """Goes on with the finished run in a folder, or with what lies there; as a forked process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    torch.set_num_threads(1)
    run = RunFolder(the_run(folder) or folder)
    Operations(folder, fatal)
    about = run.read_provenance()
    if "finished" not in about:
        resume(run.path)
    elif "more" not in about:
        train_more(run.path, MORE)


def go_on(folder: Path, fatal: int | None = None) -> int:
    process = FORKS.Process(target=go_on_in_process, args=(folder, fatal))
    process.start()
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.parametrize("share", [0, *(pytest.param(n, marks=slow) for n in range(1, 12))])
@pytest.mark.parametrize("whole", [pytest.param(True, marks=slow), False])
def test_killed_at_any_file_operation_it_goes_on_to_the_same_end(
    whole: bool, share: int, finished: Any, tmp_path: Path
) -> None:
    reference = tmp_path / "reference"
    finished(reference, whole)
    assert go_on(reference) == 0
    expected = outcome(reference)
    fatal = list(range(1 + share, n_operations(reference) + 1, 12))
    assert len(fatal) > 5
    # By default few, the first one among them: of the files that are set aside.
    for number in fatal if share else fatal[:: len(fatal) // 2 + 1]:
        folder = tmp_path / f"killed-at-{number}"
        finished(folder, whole)
        assert go_on(folder, number) == -9
        assert go_on(folder) == 0
        assert outcome(folder) == expected, number
        shutil.rmtree(folder)


def test_what_cannot_go_on_is_refused_and_nothing_is_written(finished: Any, tmp_path: Path) -> None:
    run = finished(tmp_path / "runs", False)

    def files() -> dict[str, bytes]:
        found = (path for path in run.path.rglob("*") if path.is_file() and path.name != "lock")
        return {str(path): path.read_bytes() for path in found}

    before = files()
    with pytest.raises(ConfigError, match="60 steps fill it again before the next update"):
        train_more(run.path, 60)
    with pytest.raises(ConfigError, match="1 at least, found 0"):
        train_more(run.path, 0)
    assert files() == before
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(RunFolderError, match=r"keeps no checkpoint .* --init-from"):
        train_more(run.path, 100)
    about = run.read_provenance()
    del about["finished"]
    run.provenance.write_text(json.dumps(about))
    with pytest.raises(RunFolderError, match=r"is not finished: .* sndqn train --resume"):
        train_more(run.path, 100)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("--more 1e6", "expected the folder of a finished run. Type sndqn train --more 1e6 RUN"),
        ("--more lots RUN", "expected a number of steps, such as 1e6, found 'lots'"),
        ("--more 1.5 RUN", "expected a number of steps, such as 1e6, found '1.5'"),
        ("--more 100 RUN --seed 3", "leave out --seed"),
        ("--more 100 --resume RUN", "leave out --resume"),
        ("RUN", "expected no 'RUN' here"),
        ("--more 100 nowhere", "expected the folder of a run"),
    ],
)
def test_a_mistyped_command_says_what_to_type(
    typed: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["train", *typed.split()])
    assert end.value.code == 2
    assert re.search(re.escape(words), capsys.readouterr().err)


def test_schedules_that_end_with_the_training_say_where_they_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"learning_rate_decay": True, "learning_rate": 0.001, "prioritized": True}
    run = trained(tmp_path / "runs", SMALL, **changes)
    assert cli.main(["train", "--more", "400", str(run.path)]) == 0
    said = capsys.readouterr().out
    assert "learning_rate_decay: goes on at 0.0005, and reaches 0 at step 800" in said
    assert "importance_exponent: goes on at 0.7, and reaches 1 at step 800" in said
    rates = {each["timesteps"]: each.get("train/learning_rate") for each in records(run)}
    assert rates[450] == pytest.approx(0.001 * (1 - 450 / 800), rel=0.01)
