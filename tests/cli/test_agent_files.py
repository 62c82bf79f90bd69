"""Commands on an agent file by itself, and with its digest pinned."""

import json
from pathlib import Path

import pytest
from refusals import refusal

from sndqn import cli
from sndqn.agents import load_agent
from sndqn.runs.folder import RunFolder


def test_an_agent_file_alone_is_evaluated_beside_it_replayed_and_inspected(
    agent_file: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", str(agent_file), "--episodes", "2"]) == 0
    folder = RunFolder(agent_file.parent / "cart-evaluation")
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "agent.safetensors",
        "episodes.jsonl",
        "evaluation.json",
    ]
    assert folder.agent.read_bytes() == agent_file.read_bytes()
    assert json.loads(folder.evaluation.read_text()) == json.loads(run.evaluation.read_text())
    out = capsys.readouterr().out
    assert load_agent(agent_file).sha256 in out
    assert f"Next: sndqn replay {folder.path}" in out

    assert cli.main(["replay", str(agent_file), "--values", "--episode", "1"]) == 0
    assert (folder.videos / "episode-001-values.mp4").stat().st_size > 1000
    assert cli.main(["replay", str(folder.path)]) == 0
    assert cli.main(["inspect", str(agent_file)]) == 0
    assert "mean return" in capsys.readouterr().out


def test_an_evaluation_elsewhere_leaves_the_run_as_it_was(run: RunFolder, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    output = tmp_path / "a" / "b"
    assert cli.main(["evaluate", str(run.path), "--episodes", "1", "--output", str(output)]) == 0
    assert len(json.loads((output / "evaluation.json").read_text())["episodes"]) == 1
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_an_evaluation_goes_into_no_folder_of_another_agent(
    run: RunFolder, agent_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "taken"
    output.mkdir()
    (output / "agent.safetensors").write_bytes(b"another")
    for folder in (output, run.path):
        error = refusal(["evaluate", str(agent_file), "--output", str(folder)], capsys)
        assert "found another agent's" in error
    assert (output / "agent.safetensors").read_bytes() == b"another"


def test_an_agent_that_was_not_evaluated_has_nothing_to_replay(
    agent_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(["replay", str(agent_file)], capsys)
    assert f"type sndqn evaluate {agent_file}" in error


def test_a_pinned_digest_admits_that_file_alone(
    agent_file: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    pin = ["--sha256", load_agent(agent_file).sha256]
    other = ["--sha256", "0" * 64]
    for command in (
        ["inspect", str(agent_file)],
        ["evaluate", str(agent_file), "--episodes", "1"],
        ["replay", str(run.path), "--values"],
    ):
        assert "another file" in refusal([*command, *other], capsys)
        assert cli.main([*command, *pin]) == 0
    assert "Type --values too" in refusal(["replay", str(run.path), *pin], capsys)


def test_values_of_another_agent_than_the_player_are_called_so(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(run.evaluation.read_text())
    content["agent_sha256"] = "0" * 64
    run.evaluation.write_text(json.dumps(content))
    assert cli.main(["inspect", str(run.path)]) == 0
    assert "of another agent than this one" in capsys.readouterr().out


def test_a_name_with_control_characters_is_not_echoed(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = tmp_path / "\x1b[2J\x07[red]run"
    run.path.rename(evil)
    assert cli.main(["evaluate", str(evil)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "[red]run" in out
    error = refusal(["inspect", f"{evil}-\x1b[2J\x9b"], capsys)
    assert error.replace("\n", "").isprintable()
