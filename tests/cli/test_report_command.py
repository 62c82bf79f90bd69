"""`sndqn report`: one page of many runs."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_runs import make_run, make_study
from refusals import refusal

from sndqn import cli
from sndqn.runs.lock import RunLock


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return make_study(tmp_path / "study", ["MinAtar/Breakout"], 2, points=3)


def test_the_page_goes_into_the_folder_that_was_given(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(study)]) == 0
    assert (study / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert f"4 runs: {study / 'report.html'}" in capsys.readouterr().out


def test_several_paths_make_one_page(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [str(study / "none-0-0"), str(study / "sn-0-0")]
    assert cli.main(["report", *runs]) == 0
    assert "2 runs: 2 done" in (tmp_path / "report.html").read_text()
    assert cli.main(["report", *runs, "--output", "a.html", "--format", "csv,html"]) == 0
    assert (tmp_path / "a.html").is_file()
    assert (tmp_path / "runs.csv").is_file()


def test_an_unreadable_run_is_said_and_the_others_are_shown(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (study / "sn-0-0" / "evaluation.json").write_text("{}")
    assert cli.main(["report", str(study)]) == 0
    out = capsys.readouterr().out
    assert "Left out, not readable" in out
    assert "3 runs" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere"], "expected a study, a run, or a folder with runs"),
        ([".", "--format", "svg"], "expected some of html, pdf, png, csv, found svg"),
        ([".", "--baseline", "sn"], "expected one of the arms"),
        ([".", "--every", "5"], "belongs to --live"),
        ([".", "--live", "--every", "0"], "expected seconds from 1 to 86400"),
        ([".", "--output", "a.png"], "Type --output a --format png"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    study: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(study)
    before = sorted(study.rglob("*"))
    assert said in refusal(["report", *options], capsys)
    assert sorted(study.rglob("*")) == before


def test_live_ends_with_the_last_run(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(study), "--live"]) == 0
    assert "4 of 4 runs done" in capsys.readouterr().out
    assert 'http-equiv="refresh"' not in (study / "report.html").read_text()


def test_ctrl_c_leaves_a_live_page_that_stays(study: Path) -> None:
    run = make_run(study / "going-on", seed=5, score=None, points=3)
    page = study / "report.html"
    with RunLock(run):
        command = [sys.executable, "-m", "sndqn.cli", "report", str(study), "--live"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not page.is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert 'http-equiv="refresh" content="30"' in page.read_text()
        assert "1 running" in page.read_text()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Stopped" in out
    assert 'http-equiv="refresh"' not in page.read_text()
