"""`sndqn sweep`: what is typed, what it means, and what is refused before anything is written."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sndqn import cli
from sndqn.cli.options import Parser
from sndqn.cli.sweep import gather
from sndqn.cli.train import add_settings
from sndqn.study.design import make_design
from sndqn.study.folder import Study

SMALL = ["--total-timesteps", "300", "--learning-starts", "100", "--net-arch", "8"]


def gathered(*words: str) -> tuple[list[str], dict[str, list[Any]]]:
    parser = Parser("sweep", "")
    parser.add_argument("path")
    parser.add_argument("--jobs")
    add_settings(parser)
    return gather(words, parser)


def sweep(*words: object) -> int:
    return cli.main(["sweep", *map(str, words)])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        sweep(*words)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_an_option_takes_several_values_with_blanks_between_and_commas_stay_in_one() -> None:
    rest, values = gathered(
        "s", "--env", "MinAtar/Breakout", "MinAtar/Asterix,MinAtar/Freeway", "--sn-layers", "none",
        "-2", "-2,-3", "--jobs", "2", "--seed=0..9", "--double", "--no-double", "--loss", "none",
    )  # fmt: skip
    assert rest == ["s", "--jobs", "2"]
    assert values == {
        "env": ["MinAtar/Breakout", "MinAtar/Asterix,MinAtar/Freeway"],
        "sn_layers": ["none", "-2", "-2,-3"],
        "seed": ["0..9"],
        "double": [True, False],
        "loss": [None],
    }


def test_a_study_grows_and_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sndqn.cli.sweep._make_all", lambda *_: None)  # it is made elsewhere
    study = tmp_path / "study"
    assert sweep(study, "--env", "CartPole", "--seed", "0..1", *SMALL) == 0
    before = Study.open(study)
    assert (len(before.runs), before.design.settings["total_timesteps"]) == (2, 300)
    assert sweep(study, "--env", "CartPole", "Acrobot", "--seed", "0..2", *SMALL) == 0
    assert "4 runs are added to the 2 there were" in capsys.readouterr().out
    grown = (study / "study.yaml").read_text()
    assert sweep(study, "--env", "CartPole", "Acrobot", "--seed", "0..2", *SMALL) == 0
    error = refused(capsys, study, "--env", "CartPole", "--seed", "0..2", *SMALL)
    assert f"{study} is a study of other runs, Acrobot-dqn-seed0-" in error
    assert refused(capsys, study, "--env", "CartPole", "Acrobot", "--seed", "0..2", *SMALL[:4])
    assert (study / "study.yaml").read_text() == grown


def test_a_configuration_file_is_kept_in_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sndqn.cli.sweep._make_all", lambda *_: None)
    file, study = tmp_path / "mine.yaml", tmp_path / "study"
    file.write_text("gamma: 0.9\n")
    assert sweep(study, "--env", "CartPole", "--config", file, *SMALL) == 0
    (run,) = Study.open(study).runs
    assert (run.arm, run.settings["gamma"]) == ("mine", 0.9)
    file.write_text("gamma: 0.8\n")
    error = refused(capsys, study, "--env", "CartPole", "--config", file, *SMALL)
    assert "mine.yaml is not what it was when the study was made" in error
    file.unlink()
    assert Study.open(study).runs == [run]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "CartPole", "--sn-layers", "-2", "-9"], "sn-9 on CartPole: .*-9"),
        (["--env", "CartPole", "--gamma", "0.9", "2"], "CartPole, gamma 2.0: gamma: expected"),
        (["--env", "CartPole", "Nonsense-v7"], "Nonsense-v7"),
        (["--env", "CartPole", "--learning-rat", "1"], "did you mean --learning-rate"),
        (["--env", "CartPole", "--gamma"], "--gamma: expected a value, or several"),
        (["--gamma", "0.9"], "--env: missing"),
        (["--env", "CartPole", "--exclude", "gamma"], "--exclude: expected SETTING=VALUE"),
        (["--env", "CartPole", "--jobs", "0"], "--jobs: expected a number from 1"),
        (["--env", "CartPole", "--slurm", "--ray", "auto"], "--slurm, --ray: expected one of them"),
        (["--env", "CartPole", "--gpus-per-run", "0.5"], "--gpus-per-run: belongs to --ray"),
        (["--study", "x.yaml", "--seed", "1"], "x.yaml has the study's settings: leave out --seed"),
        (["--study", "no-such.yaml"], "no-such.yaml: expected a file, found none"),
        ([], "expected the folder of a study, with a study.yaml, found none"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence_and_writes_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = SMALL if "CartPole" in words else []
    error = refused(capsys, tmp_path / "study", *words, *small)
    assert re.search(message, error), error
    assert not (tmp_path / "study").exists()


def test_a_folder_with_other_things_is_no_place_for_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").touch()
    error = refused(capsys, tmp_path, "--env", "CartPole", *SMALL)
    assert f"{tmp_path} is no study and holds 'thesis.tex'" in error
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_dry_run_lists_runs_and_measured_hours_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sndqn.training.pace._SECONDS", 0.05)
    words = ["--env", "CartPole", "--learning-rate", "1e-3", "1e-4", "--seed", "0..4"]
    more = ["--train-freq", "1", "--gradient-steps", "1", "--batch-size", "8"]
    assert sweep(tmp_path / "study", *words, *SMALL, *more, "--jobs", "2", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "10 runs, 10 to make, of 3,000 steps in all" in said
    assert "with --jobs 2" in said
    assert said.count("steps/s") == 1, "runs that differ in step size are measured once"
    assert not (tmp_path / "study").exists()


def test_runs_lists_a_study_and_any_folder_of_runs(
    finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    design = make_design({"env": "CartPole", "arms": {"a": {}, "b": {"gamma": 0.9}}}, "s.yaml")
    Study(tmp_path / "study", design).write()
    assert (
        cli.main(["runs", str(tmp_path / "study"), "--where", "gamma=0.9", "status=waiting"]) == 0
    )
    listed = capsys.readouterr().out
    assert "CartPole-b-seed0-" in listed
    assert "CartPole-a-seed0-" not in listed
    assert "1 waiting" in listed

    assert cli.main(["runs", str(finished.path.parent.parent), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["runs"]
    assert found["status"] == "done"
    assert found["timesteps"] == found["total_timesteps"] == 600
    assert found["evaluated"]
    assert found["settings"]["sn_layers"] == "-2"
    for words, message in [
        (["--where", "gama=1"], "--where: no setting is called 'gama': did you mean gamma"),
        (["--where", "gamma"], "--where: expected SETTING=VALUE"),
    ]:
        with pytest.raises(SystemExit):
            cli.main(["runs", str(tmp_path / "study"), *words])
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["runs", str(tmp_path / "nothing")])
    assert "expected a study or a folder with runs" in capsys.readouterr().err
