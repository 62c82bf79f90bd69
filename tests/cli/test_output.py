"""--quiet prints one line, --json one object, and SNDQN_RUNS_DIR says where runs go."""

import json
from pathlib import Path
from typing import Any

import pytest

from sndqn import cli
from sndqn.runs.folder import RunFolder

TINY = "--total-timesteps 40 --learning-starts 20 --eval-episodes 2 --eval-max-steps 5 "
TINY += "--eval-every-timesteps 0 --no-keep-best --no-tensorboard --net-arch 8"


def said(capsys: pytest.CaptureFixture[str], *command: str) -> tuple[str, str]:
    capsys.readouterr()
    assert cli.main(command) == 0
    found = capsys.readouterr()
    return found.out, found.err


def one_object(text: str) -> dict[str, Any]:
    data = json.loads(text)
    assert isinstance(data, dict)
    return data


def test_runs_go_where_the_environment_variable_says_unless_an_option_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNDQN_RUNS_DIR", str(tmp_path / "mine"))
    train = ["train", "--env", "CartPole", *TINY.split(), "--quiet"]
    out, err = said(capsys, *train)
    (line,) = out.splitlines()
    path, _, result = line.partition(": ")
    assert err == ""
    assert Path(path).parent == tmp_path / "mine" / "CartPole-v1"
    assert result.startswith("mean return 5.0 ± 0.0 over 2 episodes")
    said(capsys, *train, "--runs-dir", str(tmp_path / "typed"))
    assert RunFolder.open(tmp_path / "typed" / "CartPole-v1").evaluation.is_file()
    out, _ = said(capsys, "runs", "--json")
    (listed,) = one_object(out)["runs"]
    assert listed["path"] == path
    assert str(tmp_path / "mine") in _help(capsys, "train")


def _help(capsys: pytest.CaptureFixture[str], command: str) -> str:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    return "".join(capsys.readouterr().out.split())


def test_train_prints_one_object_and_the_rest_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--env", "CartPole", *TINY.split(), "--runs-dir", str(tmp_path), "--json"]
    out, err = said(capsys, *command)
    data = one_object(out)
    assert data.keys() == {
        "run", "env", "algo", "title", "sn_layers", "seed", "timesteps", "agent", "evaluation",
    }  # fmt: skip
    assert (data["env"], data["algo"], data["timesteps"]) == ("CartPole-v1", "dqn", 40)
    assert data["evaluation"]["returns"] == [5.0, 5.0]
    assert data["evaluation"]["agent_sha256"] == data["agent"]["sha256"]
    assert Path(data["evaluation"]["file"]).is_file()
    assert "SN on layer -2" in err
    out, err = said(capsys, "train", "--more", "200", data["run"], "--json", "--quiet")
    assert one_object(out)["timesteps"] == 240
    assert err == ""


def test_a_run_of_several_tasks_has_an_entry_for_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several = "MinAtar/Breakout,MinAtar/Asterix"
    options = [*TINY.replace("--total-timesteps 40", "--total-timesteps 80").split(), "--quiet"]
    command = ["train", "--env", several, *options, "--runs-dir", str(tmp_path), "--channels", "4"]
    data = one_object(said(capsys, *command, "--json")[0])
    assert sorted(task["env"] for task in data["tasks"]) == sorted(several.split(","))
    assert data.keys() == {"run", "tasks"}


def test_evaluate_says_its_result(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(run.path), "--episodes", "3", "--max-steps", "7"]
    data = one_object(said(capsys, *command, "--json", "--quiet")[0])
    assert data["evaluation"]["lengths"] == [7, 7, 7]
    assert Path(data["evaluation"]["file"]).parent.parent == run.evaluations
    (line,) = said(capsys, *command, "--quiet")[0].splitlines()
    assert line.endswith("mean return 7.0 ± 0.0 over 3 episodes")


def test_inspect_and_agents_print_one_object(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    data = one_object(said(capsys, "inspect", str(run.path), "CartPole/sn", "--json")[0])
    own, shipped = data["agents"]
    assert own["evaluation"]["episodes"] == 2
    assert shipped["env"] == "CartPole-v1"
    held = {row["index"]: row["effective"] for row in own["layers"]}
    assert held[-2] == pytest.approx(1.0, abs=0.02)
    listed = one_object(said(capsys, "agents", "--json")[0])["agents"]
    assert {"CartPole/sn", "CartPole/plain"} <= {each["name"] for each in listed}


def test_errors_stay_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--env", "Breakot", "--json", "--quiet"])
    assert end.value.code == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert "Breakout" in found.err
