"""A small finished run, made once, and copies of it for each test to use up."""

import shutil
from pathlib import Path

import pytest

from sndqn import cli
from sndqn.files import shipped
from sndqn.runs.folder import RunFolder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    runs = tmp_path_factory.mktemp("runs")
    command = ["train", "--env", "CartPole", "--sn-layers", "-2", "--net-arch", "16,16"]
    command += ["--total-timesteps", "600", "--learning-starts", "200", "--eval-episodes", "2"]
    assert cli.main([*command, "--runs-dir", str(runs)]) == 0
    return RunFolder.open(runs / "CartPole-v1")


@pytest.fixture
def run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(finished.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture
def agent_file(run: RunFolder, tmp_path: Path) -> Path:
    """The agent by itself, in a folder of its own."""
    (tmp_path / "mailed").mkdir()
    return Path(shutil.copy(run.agent, tmp_path / "mailed" / "cart.safetensors"))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation without agents yet; gives their folder. Commands run beside it."""
    configs = shipped.shipped_dir("configs").resolve()
    root = tmp_path / "installed" / "shipped" / "agents"
    root.mkdir(parents=True)
    (root.parent / "configs").symlink_to(configs)
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "installed")
    monkeypatch.chdir(tmp_path)
    return root
