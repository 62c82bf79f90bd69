"""The run folder: made whole, found again, never half-written."""

import subprocess
from pathlib import Path

import pytest

import sndqn
from sndqn.errors import RunFolderError
from sndqn.files import write_bytes
from sndqn.runs.folder import RunFolder, provenance


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path) -> None:
    runs = [RunFolder.create(str(tmp_path), "MinAtar/Breakout", "dqn") for _ in range(3)]
    assert len({run.path for run in runs}) == 3
    assert all(run.path.parent == tmp_path / "MinAtar-Breakout" for run in runs)


def test_names_stay_inside_the_runs_folder(tmp_path: Path) -> None:
    run = RunFolder.create(str(tmp_path), "../../etc/x y", "dqn")
    assert run.path.parent.parent == tmp_path


def test_the_only_run_of_a_folder_is_found_and_of_several_one_is_asked_for(tmp_path: Path) -> None:
    first = RunFolder.create(str(tmp_path), "CartPole", "dqn")
    write_bytes(first.config, b"env: CartPole\n")
    assert RunFolder.open(tmp_path / "CartPole").path == first.path
    write_bytes(RunFolder.create(str(tmp_path), "CartPole", "dqn").config, b"env: CartPole\n")
    with pytest.raises(RunFolderError, match="holds 2 runs: name one of them"):
        RunFolder.open(tmp_path / "CartPole")


def test_provenance_names_command_versions_and_machine() -> None:
    record = provenance()
    assert {"command", "started", "python", "platform", "cpus", "versions"} <= set(record)
    assert {"torch", "stable-baselines3", "gymnasium"} <= set(record["versions"])


def test_provenance_names_the_commit_of_a_checkout_and_none_of_an_installed_package() -> None:
    checkout = Path(sndqn.__file__).parents[1]
    commit = provenance()["commit"]
    if not (checkout / ".git").exists():
        assert commit is None
        return
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert commit.removesuffix("-dirty") == head.stdout.strip()
