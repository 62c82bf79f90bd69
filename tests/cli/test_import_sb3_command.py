"""`sndqn import-sb3`: the weights in a zip of Stable-Baselines3, and what they do not fit."""

from pathlib import Path

import pytest
from refusals import refusal

from sndqn import cli
from sndqn.runs.folder import RunFolder


def test_an_agent_for_another_environment_is_refused_and_nothing_written(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zip_file, output = tmp_path / "run.zip", tmp_path / "new.safetensors"
    assert cli.main(["export", str(run.path), "--format", "sb3", "--output", str(zip_file)]) == 0
    command = ["import-sb3", str(zip_file), "--env", "Acrobot", "--output", str(output)]
    assert "expected 2 actions, as the zip says, found 3" in refusal(command, capsys)
    assert not output.exists()
