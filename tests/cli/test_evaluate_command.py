"""Evaluations are kept: none is written over, and each command says which one it reads."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import refusal

from sndqn import cli
from sndqn.evaluation import read_episodes, write_trace
from sndqn.runs.folder import RunFolder


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def evaluate(agent: object, *options: str) -> None:
    assert cli.main(["evaluate", str(agent), *options]) == 0


def test_evaluate_again_gives_the_same_scores(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads(run.evaluation.read_text())
    assert cli.main(["evaluate", str(run.path)]) == 0
    assert json.loads(run.evaluation.read_text()) == before


def test_later_evaluations_leave_the_trainings_own_as_it_was_and_stand_beside_it(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    own = files(run.path)
    evaluate(run.path)
    evaluate(run.path, "--episodes", "1", "--seed", "7", "--epsilon", "0.1", "--max-steps", "30")
    evaluate(run.path, "--episodes", "1", "--name", "first.look")
    assert {path: files(run.path)[path] for path in own} == own
    assert sorted(path.name for path in run.evaluations.iterdir()) == [
        "1-episodes-eps0.1-seed7-max30",
        "2-episodes-eps0-seed1000",
        "first.look",
    ]
    again = RunFolder(run.evaluations / "2-episodes-eps0-seed1000")
    assert again.evaluation.read_bytes() == run.evaluation.read_bytes()
    first_look = RunFolder(run.evaluations / "first.look")
    assert len(list(read_episodes(first_look.episodes))) == 1
    assert f"Next: sndqn replay {run.path} --evaluation first.look" in capsys.readouterr().out


def test_the_same_command_twice_keeps_one_and_says_so(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(run.path, "--episodes", "1")
    kept = files(run.path)
    evaluate(run.path, "--episodes", "1")
    assert "The same to the bit as" in capsys.readouterr().out
    assert files(run.path) == kept


@pytest.mark.parametrize("change", ["another", "damaged", "empty"])
def test_an_evaluation_with_other_content_gets_another_name(run: RunFolder, change: str) -> None:
    evaluate(run.path, "--episodes", "1")
    (folder,) = (RunFolder(path) for path in run.evaluations.iterdir())
    if change == "empty":
        folder.evaluation.unlink()
    else:
        record = json.loads(folder.evaluation.read_text())
        record["agent_sha256"] = "0" * 64
        folder.evaluation.write_text(json.dumps(record) if change == "another" else "{")
    kept = files(run.path)
    evaluate(run.path, "--episodes", "1")
    assert files(run.path).items() > kept.items()
    assert (run.evaluations / f"{folder.path.name}-2" / "evaluation.json").is_file()


def test_a_name_that_is_none_or_taken_is_refused_before_a_game_is_played(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(run.path, "--episodes", "1", "--name", "mine")
    kept = files(run.path)
    for name in ("../up", "", ".hidden", "a/b", "x" * 65):
        assert "--name: expected letters" in refusal(
            ["evaluate", str(run.path), "--name", name], capsys
        )
    error = refusal(["evaluate", str(run.path), "--episodes", "2", "--name", "mine"], capsys)
    assert "is another evaluation" in error
    assert "type another name" in error
    assert files(run.path) == kept


def test_commands_read_the_trainings_own_evaluation_or_the_one_named(
    run: RunFolder, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(run.path, "--episodes", "1", "--max-steps", "5", "--name", "short")
    capsys.readouterr()
    assert cli.main(["inspect", str(run.path)]) == 0
    out = capsys.readouterr().out
    assert "over 2 episodes (its own evaluation)" in out
    assert "other evaluations: --evaluation short" in out
    for given in ([str(run.path), "--evaluation", "short"], [str(run.evaluations / "short")]):
        assert cli.main(["inspect", *given]) == 0
        assert "mean return 5.0 ± 0.0 over 1 episodes (evaluation short)" in capsys.readouterr().out
        assert cli.main(["replay", *given, "--values"]) == 0
        assert "of evaluation short: return 5 in 5 steps" in capsys.readouterr().out
    episodes = run.evaluations / "short" / "episodes.jsonl"
    assert cli.main(["replay", str(episodes), "--values"]) == 0
    assert (run.evaluations / "short" / "videos" / "episode-000-values.mp4").is_file()
    assert not run.videos.exists()
    assert cli.main(["replay", str(run.path)]) == 0
    assert "of its own evaluation" in capsys.readouterr().out

    assert cli.main(["agents", "add", str(run.path), "--name", "own"]) == 0
    command = ["agents", "add", str(run.path), "--name", "short", "--evaluation", "short"]
    assert cli.main(command) == 0
    kept = [
        json.loads((installed / "CartPole" / name / "evaluation.json").read_text())["episodes"]
        for name in ("own", "short")
    ]
    assert [len(found) for found in kept] == [2, 1]
    error = refusal(["replay", str(run.path), "--evaluation", "long"], capsys)
    assert "there are: short" in error


def test_a_second_evaluation_of_an_agent_file_stands_beside_the_first(
    agent_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(agent_file, "--episodes", "1")
    folder = RunFolder(agent_file.parent / "cart-evaluation")
    first = files(folder.path)
    evaluate(agent_file, "--episodes", "2")
    assert {path: files(folder.path)[path] for path in first} == first
    assert cli.main(["replay", str(agent_file), "--evaluation", "2-episodes-eps0-seed1000"]) == 0
    assert "--evaluation 2-episodes-eps0-seed1000" in capsys.readouterr().out


def test_an_agent_with_later_evaluations_alone_says_which_to_name(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    run.evaluation.unlink()
    evaluate(run.path, "--episodes", "1", "--name", "early")
    assert not run.evaluation.exists()
    assert "type --evaluation early" in refusal(["replay", str(run.path)], capsys)


def test_a_folder_with_a_file_for_each_trace_is_replayed_inspected_evaluated_and_added(
    run: RunFolder, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, trace in enumerate(read_episodes(run.episodes)):
        write_trace(run.path / "traces" / f"episode-{number:03d}.trace.json", trace)
    expected = run.episodes.read_bytes()
    run.episodes.unlink()
    for command in (["inspect"], ["replay", "--episode", "1"], ["evaluate", "--episodes", "1"]):
        assert cli.main([command[0], str(run.path), *command[1:]]) == 0
    assert (run.videos / "episode-001.mp4").is_file()
    assert cli.main(["replay", str(run.path / "traces" / "episode-001.trace.json")]) == 0
    assert (run.path / "traces" / "episode-001.mp4").is_file()
    assert cli.main(["agents", "add", str(run.path), "--name", "old"]) == 0
    assert (installed / "CartPole" / "old" / "episodes.jsonl").read_bytes() == expected
    damaged = run.path / "traces" / "episode-000.trace.json"
    damaged.write_text(damaged.read_text().replace('"versions": {', '"versions": {"x": "1",'))
    assert "changed after it was written" in refusal(
        ["replay", str(run.path), "--episode", "0"], capsys
    )


def test_ctrl_c_keeps_the_finished_episodes_and_the_same_command_goes_on_with_the_others(
    run: RunFolder,
) -> None:
    command = [sys.executable, "-m", "sndqn.cli", "evaluate", str(run.path)]
    command += ["--episodes", "2000", "--max-steps", "9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = [next(line for line in process.stdout if line.startswith("episode "))]
        process.send_signal(signal.SIGINT)
        printed += process.stdout
    assert process.returncode == 130
    (kept,) = run.evaluations.iterdir()
    assert kept.name == ".2000-episodes-eps0-seed1000-max9.unfinished.jsonl"
    n_kept = len(kept.read_text().splitlines()) - 1
    assert 0 < n_kept < 2000
    assert any(line.endswith(" of 2000 episodes are over, and kept\n") for line in printed)
    assert printed[-1] == "To go on with the others, type the same command again\n"

    kept_first = kept.read_text().splitlines()[1]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "over 2000 episodes" in done.stdout
    (folder,) = (RunFolder(path) for path in run.evaluations.iterdir())
    traces = list(read_episodes(folder.episodes))
    assert len(traces) == 2000
    first = json.loads(kept_first)
    assert traces[first["episode"]].sha256 == first["trace"]["sha256"]
