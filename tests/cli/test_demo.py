"""`sndqn demo` trains both arms, and ends with a report and a clip; Ctrl-C loses nothing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sndqn import cli
from sndqn.study.folder import Study


def test_too_short_a_training_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["demo", "--folder", str(tmp_path / "demo"), "--steps", "100"])
    assert "--steps: expected 2000 or more, found 100" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_stopped_by_ctrl_c_and_typed_again_it_ends_with_report_and_clip(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sndqn.cli", "demo", "--folder", "demo", "--steps", "2000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    while not list(tmp_path.glob("demo/runs/*/metrics.jsonl")):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "To go on: sndqn demo --folder demo --steps 2000" in said
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    study = Study.open(tmp_path / "demo")
    assert [study.status(run) for run in study.runs] == ["done"] * 4
    assert {run.settings["sn_layers"] for run in study.runs} == {"-2", "none"}
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "demo" / "side-by-side.mp4").stat().st_size > 10_000
    assert "Report: demo/report.html" in done.stdout
