"""Making a study: it survives what kills its processes, and no run is made twice."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from sweeps import CARTPOLE, SMALL, kill, outcome, start_sweep, wait_until, workers, write_study

from sndqn import cli
from sndqn.study.folder import Study
from sndqn.training.config import make_config
from sndqn.training.run import train


def checkpointed(study: Study) -> str | None:
    """Gives the name of a run that is being made and has a checkpoint."""
    made = workers(study)
    return next((n for n in made if any(study.path.glob(f"runs/{n}/checkpoints/step-*"))), None)


def test_a_study_whose_worker_and_then_pool_are_killed_ends_as_plain_trainings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path / "s.yaml", CARTPOLE)
    pool = start_sweep(tmp_path / "study", "--study", file, "--jobs", 2)
    wait_until((tmp_path / "study" / "study.yaml").is_file)
    study = Study.open(tmp_path / "study")
    killed = wait_until(lambda: checkpointed(study))
    first = workers(study)[killed]
    kill(first)
    again = wait_until(lambda: workers(study).get(killed, first) != first)
    assert again, "the pool goes on with a run whose process was killed"
    kill(pool.pid)
    pool.communicate()
    wait_until(lambda: not workers(study))  # they end with their pool
    states = [study.status(run) for run in study.runs]
    assert cli.main(["sweep", str(study.path)]) == 0
    assert "2 of 2 runs done" in capsys.readouterr().out
    assert set(states) <= {"interrupted", "waiting", "done"}
    for run in study.runs:
        assert study.status(run) == "done"
        plain = train(make_config({**run.settings, "runs_dir": str(tmp_path / "plain")}))
        assert outcome(study.folder(run)) == outcome(plain)
    resumed = json.loads((study.path / "runs" / killed / "provenance.json").read_text())["resumed"]
    assert resumed[0]["step"] >= 150, "it went on from its checkpoint"
    assert {found.name for found in (study.path / "runs").iterdir()} == {r.name for r in study.runs}

    before = {path: path.stat().st_mtime_ns for path in study.path.rglob("*.json*")}
    assert cli.main(["sweep", str(study.path)]) == 0
    assert {path: path.stat().st_mtime_ns for path in study.path.rglob("*.json*")} == before


def test_ctrl_c_stops_all_whole_and_the_same_command_goes_on(tmp_path: Path) -> None:
    design = {**CARTPOLE, "seed": 0, "settings": {**SMALL, "total_timesteps": 100_000}}
    file = write_study(tmp_path / "s.yaml", design)
    pool = start_sweep(tmp_path / "study", "--study", file)
    wait_until((tmp_path / "study" / "study.yaml").is_file)
    study = Study.open(tmp_path / "study")
    wait_until(lambda: checkpointed(study))
    pool.send_signal(signal.SIGINT)
    output, _ = pool.communicate(timeout=60)
    assert pool.returncode == 130, output
    assert "Stopping: 1 run being saved" in output
    (run,) = study.runs
    assert study.status(run) == "interrupted"
    folder = study.folder(run)
    assert "The agent so far is saved" in (folder.path / "output.txt").read_text()
    recorded = json.loads(folder.timing.read_text().splitlines()[-1])["timesteps"]
    newest = max(path.name for path in folder.path.glob("checkpoints/step-*"))
    assert int(newest.split("-")[1]) >= recorded, "nothing recorded is lost"


@pytest.mark.slow
def test_two_pools_share_the_runs_of_a_study(tmp_path: Path) -> None:
    file = write_study(tmp_path / "s.yaml", {**CARTPOLE, "seed": "0..2"})
    command = [tmp_path / "study", "--study", file, "--jobs", 1]
    outputs = [pool.communicate(timeout=200)[0] for pool in [start_sweep(*command) for _ in "ab"]]
    study = Study.open(tmp_path / "study")
    assert [study.status(run) for run in study.runs] == ["done"] * 3
    for run in study.runs:
        made = (study.folder(run).path / "output.txt").read_text()
        assert made.count("Run folder:") == 1, "it was made once"
        assert sum(f"{run.name}: done" in output for output in outputs) == 1


def test_a_run_that_fails_is_named_with_its_reason_and_tried_again_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diverging: dict[str, Any] = {"learning_rate": 1e30, "optimizer": "sgd", "loss": "mse"}
    arms = {"bad": diverging, "good": {}}
    design = {**CARTPOLE, "seed": 0, "arms": arms, "settings": {**SMALL, "total_timesteps": 400}}
    file = write_study(tmp_path / "s.yaml", design)
    command = ["sweep", str(tmp_path / "study"), "--study", str(file), "--jobs", "1"]
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    assert ended.value.code == 1
    said = capsys.readouterr().out
    study = Study.open(tmp_path / "study")
    bad, good = study.runs
    assert (study.status(bad), study.status(good)) == ("failed", "done")
    assert f"{bad.name}: failed: " in said
    assert "finite" in said
    assert f"runs/{bad.name}/output.txt" in said.replace("\n", "")
    assert f"sndqn sweep {tmp_path / 'study'} --retry" in said

    output = study.folder(bad).path / "output.txt"
    tried_once = output.read_text()
    with pytest.raises(SystemExit):
        cli.main(command)
    assert output.read_text() == tried_once, "it is left alone until it is asked for"
    with pytest.raises(SystemExit):
        cli.main([*command, "--retry"])
    assert output.read_text().startswith(tried_once)
    assert len(output.read_text()) > len(tried_once)
