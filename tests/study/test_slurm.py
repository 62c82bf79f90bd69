"""A study on Slurm: the script, and a real cluster that stops and restarts its tasks."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import Slurm, can_be_started
from sweeps import CARTPOLE, SMALL, kill, outcome, wait_until, workers, write_study

from sndqn import cli
from sndqn.errors import ConfigError
from sndqn.study.design import make_design
from sndqn.study.folder import Study
from sndqn.study.slurm import submit
from sndqn.training.config import make_config
from sndqn.training.run import train

FAKE_SBATCH = """\
#!/bin/sh
[ "$2" = "--bad" ] && { echo "sbatch: unrecognized option '--bad'" >&2; exit 1; }
echo "42;cluster"
"""


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    if not can_be_started():
        pytest.skip("needs root and Slurm's programs: apt install slurmctld slurmd munge")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Slurm(Path(folder)) as cluster,
    ):
        monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        yield cluster


@pytest.mark.slow
def test_on_slurm_a_study_survives_a_time_limit_and_a_kill_with_the_same_numbers(
    slurm: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    design = {**CARTPOLE, "settings": {**SMALL, "total_timesteps": 5000}}
    file = write_study(tmp_path / "s.yaml", design)
    path = tmp_path / "study"
    assert cli.main(["sweep", str(path), "--study", str(file), "--slurm=--time=30"]) == 0
    said = capsys.readouterr().out
    job = said.split()[2]
    assert f"Submitted job {job} of 2 tasks" in said
    study = Study.open(path)

    def checkpointed(index: int) -> bool:
        folder = study.folder(study.runs[index]).path
        return any(folder.glob("checkpoints/step-*"))

    wait_until(lambda: checkpointed(0) and checkpointed(1))
    first, second = (run.name for run in study.runs)
    kill(workers(study)[second])  # its task goes on with it
    slurm.call("scancel", "--signal=USR1", f"{job}_1")  # as ahead of the time limit
    wait_until(lambda: "BeginTime" in slurm.call("squeue", "-h", "-o", "%r"))
    assert "stopped by SIGUSR1" in (path / f"slurm-{job}_1.txt").read_text()
    assert first not in workers(study)
    for task in slurm.call("squeue", "-h", "-t", "PD", "-o", "%A").split():
        slurm.call("scontrol", "update", f"JobId={task}", "StartTime=now")
    wait_until(lambda: all(study.status(run) == "done" for run in study.runs), 600)
    for run in study.runs:
        plain = train(make_config({**run.settings, "runs_dir": str(tmp_path / "plain")}))
        assert outcome(study.folder(run)) == outcome(plain)
        assert study.folder(run).read_provenance()["resumed"]


def small_study(path: Path) -> Study:
    study = Study(path, make_design(CARTPOLE, "s.yaml"))
    study.write()
    return study


def test_the_script_asks_for_a_task_for_each_run_and_is_submitted_with_what_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(FAKE_SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    study = small_study(tmp_path / "a study")
    lines = submit(study, "--partition=gpu", None, 3, ["--import", "mine"])
    assert lines[0].startswith("Submitted job 42 of 2 tasks")
    script = (study.path / "slurm.sh").read_text()
    assert "#SBATCH --array=1-2\n" in script
    assert "#SBATCH --cpus-per-task=3\n" in script
    assert f"sweep '{study.path}' --jobs 1 --no-wait --import mine\n" in script
    submit(study, "", 1, 1, [])
    assert "#SBATCH --array=1-1\n" in (study.path / "slurm.sh").read_text()
    with pytest.raises(ConfigError, match="sbatch refuses: sbatch: unrecognized option '--bad'"):
        submit(study, "--bad", None, 1, [])


def test_without_slurm_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="expected Slurm's sbatch on this machine"):
        submit(small_study(tmp_path / "study"), "", None, 1, [])
