"""`sndqn export`: an agent for other tools, and its way back."""

import sys
from pathlib import Path

import pytest
from refusals import refusal
from stable_baselines3 import DQN

from sndqn import cli
from sndqn.agents import load_agent
from sndqn.runs.folder import RunFolder


def test_an_agent_goes_out_to_stable_baselines3_and_comes_back(
    run: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", str(run.path), "--format", "sb3"]) == 0
    assert load_agent(run.agent).sha256 in capsys.readouterr().out
    DQN.load(tmp_path / "run.zip", device="cpu")
    back = tmp_path / "back.safetensors"
    command = ["import-sb3", "run.zip", "--env", "CartPole", "--output", str(back)]
    assert cli.main(command) == 0
    assert cli.main(["evaluate", str(back), "--episodes", "1"]) == 0
    assert "exists already" in refusal(command, capsys)


def test_an_exported_agent_file_is_the_same_file_under_another_name(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.safetensors"
    command = ["export", str(run.path), "--output", str(path)]
    assert "another file" in refusal([*command, "--sha256", "0" * 64], capsys)
    assert not path.exists()
    assert cli.main(command) == 0
    assert path.read_bytes() == run.agent.read_bytes()
    assert "exists already" in refusal(command, capsys)


def test_onnx_where_it_is_not_installed_says_what_to_type(
    run: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # so that it is not found
    output = tmp_path / "agent.onnx"
    command = ["export", str(run.path), "--format", "onnx", "--output", str(output)]
    assert 'pip install "sndqn[onnx]"' in refusal(command, capsys)
    assert not output.exists()
