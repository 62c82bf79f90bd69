"""`sndqn agents`: a run is added, listed, shown, and used by its name."""

import hashlib
import json
from pathlib import Path

import pytest
from refusals import refusal

from sndqn import cli
from sndqn.runs.folder import RunFolder
from sndqn.training.shipping import rank


@pytest.fixture
def added(run: RunFolder, installed: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of a shipped agent, CartPole/tiny."""
    assert cli.main(["agents", "add", str(run.path), "--name", "tiny"]) == 0
    assert "Next: sndqn agents CartPole/tiny" in capsys.readouterr().out
    return installed / "CartPole" / "tiny"


def test_an_added_agent_has_its_files_and_the_index_their_digests(added: Path) -> None:
    files = sorted(p.relative_to(added).as_posix() for p in added.rglob("*") if p.is_file())
    assert files == [
        "README.md",
        "agent.safetensors",
        "config.yaml",
        "episodes.jsonl",
        "evaluation.json",
        "replay.mp4",
    ]
    index = json.loads((added.parent.parent / "index.json").read_text())
    assert index["agents"]["CartPole/tiny"]["files"] == {
        name: hashlib.sha256((added / name).read_bytes()).hexdigest() for name in files
    }


def test_what_ships_says_nothing_of_the_machine_it_was_made_on(run: RunFolder, added: Path) -> None:
    runs_dir = str(run.path.parent)
    for path in (added / "config.yaml", added / "README.md"):
        assert runs_dir not in path.read_text()
        assert "pytest" not in path.read_text()


def test_the_list_and_the_card_say_what_an_agent_is(
    added: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["agents"]) == 0
    out = capsys.readouterr().out
    score = json.loads((added / "evaluation.json").read_text())
    for word in ("CartPole/tiny", "dqn", "-2", "600", f"{score['mean']:.1f} ±"):
        assert word in out
    assert cli.main(["agents", "CartPole/tiny"]) == 0
    card = capsys.readouterr().out
    assert card == (added / "README.md").read_text()
    digest = hashlib.sha256((added / "agent.safetensors").read_bytes()).hexdigest()
    for word in (digest, f"{score['mean']:.1f} ±", "sndqn train", "layers -2", "normalize 1"):
        assert word in card


def test_a_name_stands_wherever_a_run_does_and_what_ships_stays_as_it_is(
    added: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in added.rglob("*") if path.is_file()}
    assert cli.main(["inspect", "CartPole/tiny"]) == 0
    assert "mean return" in capsys.readouterr().out
    assert cli.main(["replay", "CartPole/tiny", "--values"]) == 0
    own = tmp_path / "CartPole-tiny-evaluation"
    assert list((own / "videos").iterdir())
    for name in ("CartPole/tiny", str(added), str(added / "agent.safetensors")):
        assert cli.main(["evaluate", name, "--episodes", "1"]) == 0
        assert len(json.loads((own / "evaluation.json").read_text())["episodes"]) == 1
    assert {path: path.read_bytes() for path in added.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("file", ["agent.safetensors", "episodes.jsonl"])
@pytest.mark.parametrize("change", ["changed", "missing"])
def test_a_shipped_agent_whose_files_were_changed_is_refused(
    added: Path, file: str, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if change == "missing":
        (added / file).unlink()
    else:
        (added / file).write_bytes((added / file).read_bytes() + b" ")
    for command in ("inspect", "replay", "evaluate", "agents"):
        assert "install sndqn again" in refusal([command, "CartPole/tiny"], capsys)


def test_adding_what_is_not_whole_is_refused_and_adds_nothing(
    run: RunFolder, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def add(name: str) -> str:
        return refusal(["agents", "add", str(run.path), "--name", name], capsys)

    for name in ("../up", "", "a/b", ".hidden", "x" * 65, "\x1b[2J"):
        assert "--name: expected letters" in add(name)
    header, first, second = run.episodes.read_text().splitlines(keepends=True)
    for wrong in (header + first + first, header + first, header + first + second + second):
        run.episodes.write_text(wrong)
        assert "expected the traces that evaluation.json names" in add("tiny")
    run.episodes.write_text(header + first + second)
    evaluation = run.evaluation.read_text()
    run.evaluation.write_text(evaluation.replace('"mean": ', '"mean": 1'))
    assert "expected statistics" in add("tiny")
    run.evaluation.unlink()
    assert "type sndqn evaluate" in add("tiny")
    assert not list(installed.iterdir())
    run.evaluation.write_text(evaluation)
    assert cli.main(["agents", "add", str(run.path), "--name", "tiny"]) == 0
    assert "delete it, or type another name" in add("tiny")
    assert "there are: CartPole/tiny" in refusal(["agents", "CartPole/sn"], capsys)


def test_of_a_study_the_median_seed_ships_and_its_card_says_what_all_scored(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--total-timesteps", "300", "--learning-starts", "200", "--eval-episodes", "2"]
    arms = ["--env", "CartPole", "--sn-layers", "-2", "--seed", "0..2", "--jobs", "1"]
    assert cli.main(["sweep", "study", *arms, *short]) == 0
    add = ["agents", "add", "study", "--env", "CartPole-v1", "--name", "tiny", "--arm"]
    assert "--arm of" in refusal([*add, "sn"], capsys)
    assert cli.main([*add, "dqn"]) == 0
    scores = {
        seed: json.loads(path.read_text())["mean"]
        for seed in range(3)
        for path in Path("study/runs").glob(f"*-seed{seed}-*/evaluation.json")
    }
    assert len(scores) == 3
    folder = installed / "CartPole" / "tiny"
    seeds = json.loads((folder / "seeds.json").read_text())
    expected = {str(seed): score for seed, score in scores.items()}
    assert seeds == {"study": "study", "arm": "dqn", "scores": expected}
    shipped = json.loads((folder / "evaluation.json").read_text())["mean"]
    assert shipped == sorted(scores.values())[1]
    card = (folder / "README.md").read_text()
    assert "this agent is the median" in card
    assert "\n    sndqn train --env CartPole-v1 --config config.yaml\n" in card
    assert "sndqn sweep" not in card, "which needs the study's folder"


def test_a_study_that_is_not_finished_has_no_median(
    run: RunFolder, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add = ["agents", "add", str(run.path), "--name", "tiny", "--arm", "sn-2"]
    assert "expected the folder of a study" in refusal(add, capsys)
    assert not list(installed.iterdir())


def test_the_list_has_atari_first_and_the_best_of_a_game_before_the_others() -> None:
    agents = {
        name: {"suite": suite, "env": env, "mean": mean}
        for name, suite, env, mean in (
            ("CartPole/plain", "control", "CartPole-v1", 9.0),
            ("CartPole/sn", "control", "CartPole-v1", 10.0),
            ("Pong/sn", "atari", "Pong", -5.0),
        )
    }
    ordered = sorted(agents, key=lambda name: rank(name, agents[name]))
    assert ordered == ["Pong/sn", "CartPole/sn", "CartPole/plain"]
