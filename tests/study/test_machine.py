"""`sndqn doctor` says what this machine has, beside what trainings need."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sndqn import cli
from sndqn.study import machine
from sndqn.study.speeds import measure_speeds

ROOT = Path(__file__).parent.parent.parent
TESTED = Path(machine.__file__).parent / "tested.txt"


def test_the_versions_that_ship_are_those_of_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    lines = TESTED.read_text().splitlines()
    assert len(lines) > 5
    assert all(re.search(f"^{re.escape(line.lower())}$", lock, re.MULTILINE) for line in lines)


def test_each_thing_is_looked_at_and_has_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNDQN_RUNS_DIR", str(tmp_path / "mine"))
    assert cli.main(["doctor", "--no-speed", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"]
    found = {each["name"]: each for each in data["findings"]}
    assert list(found) == [
        "versions", "extras", "cores", "compiler", "GPU", "memory", "disk", "display", "video",
    ]  # fmt: skip
    assert found["disk"]["data"]["runs_dir"] == str(tmp_path / "mine")
    assert found["memory"]["data"]["replay_bytes"] == pytest.approx(7.06e9)
    assert not (tmp_path / "mine").exists()
    assert cli.main(["doctor", "--no-speed"]) == 0
    assert "Nothing is in the way" in capsys.readouterr().out


def test_what_is_missing_comes_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert "apt install g++" in machine.compiler().remedy
    monkeypatch.setattr(machine, "_free_memory", lambda: 3_000_000_000)
    assert "--buffer-size 250000" in machine.memory().remedy
    monkeypatch.setattr(machine, "_version", lambda name: "1.0")
    found = machine.versions()
    assert found.verdict == "note"
    assert "torch 1.0 (tested: 2.13.0)" in found.text
    assert "torch==2.13.0" in found.remedy
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    assert machine.extras().remedy.startswith('To have them: pip install "sndqn[minatar,')


def test_a_folder_that_may_not_be_written_to_is_wrong_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor", "--no-speed"])
    assert end.value.code == 1
    assert "export SNDQN_RUNS_DIR=" in capsys.readouterr().out


def test_speed_is_measured_in_bounded_time() -> None:
    (finding,) = measure_speeds(("CartPole",), 0.0)
    assert finding.verdict == "note"
    assert "sndqn sweep trial --env CartPole --dry-run" in finding.remedy


@pytest.mark.slow
def test_the_time_of_a_default_run_is_its_steps_at_the_measured_pace() -> None:
    (finding,) = measure_speeds(("CartPole",), 300.0)
    data: dict[str, Any] = finding.data
    assert data["total_timesteps"] == 60_000
    assert data["hours"] == pytest.approx(60_000 / data["steps_per_second"] / 3600)
