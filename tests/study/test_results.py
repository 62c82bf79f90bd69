"""Reading runs, finished, going on or damaged."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hostile import damaged
from made_runs import make_run, make_study

from sndqn import cli
from sndqn.errors import RunFolderError, SndqnError
from sndqn.runs.folder import RunFolder
from sndqn.runs.lock import RunLock
from sndqn.study.design import make_design
from sndqn.study.folder import Study
from sndqn.study.results import read_results, read_run
from sndqn.study.run_files import MAX_LINES, read_records


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    command = ["train", "--env", "CartPole", "--sn-layers", "-2", "--net-arch", "16,16"]
    command += ["--total-timesteps", "600", "--learning-starts", "200", "--eval-episodes", "2"]
    command += ["--eval-every-timesteps", "200", "--log-every-timesteps", "100"]
    assert cli.main([*command, "--runs-dir", str(runs)]) == 0
    return RunFolder.open(runs / "CartPole-v1").path


def test_what_a_training_leaves_is_read(trained: Path) -> None:
    run = read_run(RunFolder(trained))
    assert (run.env, run.seed, run.status) == ("CartPole-v1", 0, "done")
    assert run.evaluation is not None
    assert run.score == np.mean(run.evaluation.returns)
    assert run.course.timesteps == 600
    assert (
        run.course.layers["sigma"].keys() == run.layers.keys() == {"q_net.0", "q_net.2", "q_net.4"}
    )
    assert run.layers["q_net.2"] == -2
    assert run.evaluations is not None
    with np.load(trained / "evaluations.npz") as kept:
        assert run.evaluations.timesteps.tolist() == kept["timesteps"].tolist() == [200, 400, 600]
        assert run.evaluations.values.tolist() == kept["results"].mean(axis=1).tolist()
    assert run.training_returns is not None
    assert run.training_returns.timesteps[-1] == 600
    assert run.seconds is not None


def test_arms_are_the_settings_in_which_runs_of_a_game_differ(tmp_path: Path) -> None:
    make_study(tmp_path, ["MinAtar/Breakout", "MinAtar/Asterix"], 2)
    results = read_results([tmp_path])
    assert results.arms == ("plain", "SN -2")
    assert results.differing == ("sn_layers",)
    assert [len(results.of(env, arm)) for env in results.envs for arm in results.arms] == [2] * 4


def test_games_may_differ_in_settings_without_being_arms(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "MinAtar/Breakout", learning_rate=1e-3)
    make_run(tmp_path / "b", "CartPole", learning_rate=1e-4)
    results = read_results([tmp_path / "a", tmp_path / "b"])
    assert results.arms == ("dqn, SN -2",)
    assert results.envs == ["CartPole-v1", "MinAtar/Breakout"]


def test_machine_and_evaluation_make_no_arm(tmp_path: Path) -> None:
    make_run(tmp_path / "a", threads=1, eval_episodes=5)
    make_run(tmp_path / "b", threads=2, eval_episodes=6, seed=1)
    assert len(read_results([tmp_path]).arms) == 1


def test_the_same_seed_twice_counts_once_and_the_finished_run_stays(tmp_path: Path) -> None:
    make_run(tmp_path / "a", score=None)
    make_run(tmp_path / "b", score=3.0)
    results = read_results([tmp_path])
    assert [run.path.name for run in results.runs] == ["b"]
    assert [path.name for path in results.repeated] == ["a"]


def test_a_run_that_goes_on_is_running_and_without_its_last_half_line(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", score=None)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"timesteps": 99000, "rollout/ep')
    assert read_run(RunFolder(folder)).status == "interrupted"
    with RunLock(folder):
        run = read_run(RunFolder(folder))
    assert (run.status, run.score, run.course.timesteps) == ("running", None, 10_000)


def test_a_task_of_several_is_as_far_as_their_run(tmp_path: Path) -> None:
    for name in ("Breakout", "Asterix"):
        task = make_run(tmp_path / "run" / name, f"MinAtar/{name}")
        (task / "provenance.json").write_text("{}")
    (tmp_path / "run" / "tasks.yaml").write_text("env: MinAtar/Breakout,MinAtar/Asterix\n")
    (tmp_path / "run" / "provenance.json").write_text('{"finished": "2026-11-30"}')
    runs = read_results([tmp_path / "run"]).runs
    assert [(run.env, run.status) for run in runs] == [
        ("MinAtar/Asterix", "done"),
        ("MinAtar/Breakout", "done"),
    ]


def test_numbers_of_a_diverged_run_are_gaps(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"timesteps": 99000, "train/loss": "nan", "rollout/ep_rew_mean": null}\n')
    course = read_run(RunFolder(folder)).course
    assert course.timesteps == 99_000
    assert np.isnan(course.totals["train/loss"].values[-1])


def test_diagnostics_are_read_beside_the_metrics(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    (folder / "diagnostics.jsonl").write_text(
        '{"timesteps": 1000, "srank": 12, "layers": {"q_net.0": {"gradient_norm": 0.5}}}\n'
    )
    course = read_run(RunFolder(folder)).course
    assert course.totals["srank"].values.tolist() == [12.0]
    assert course.layers["gradient_norm"]["q_net.0"].values.tolist() == [0.5]


def test_of_a_long_file_evenly_many_lines_are_read_and_the_last(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [f'{{"timesteps": {at // 2}, "{"ab"[at % 2]}": 1}}' for at in range(40_001)]
    path.write_text("\n".join(lines) + "\n")
    records = read_records(path)
    assert MAX_LINES / 2 < len(records) <= MAX_LINES + 2
    assert records[-1][0] == 40_001
    assert sum("a" in record for _, record in records) > MAX_LINES / 5
    assert sum("b" in record for _, record in records) > MAX_LINES / 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", "env: [", "not readable as YAML"),
        ("config.yaml", "env: CartPole\nnonsense: 1", "no setting is called 'nonsense'"),
        ("metrics.jsonl", "[1]\n", "line 1: expected {name: value}"),
        ("metrics.jsonl", '{"timesteps": -1}\n', "line 1: expected timesteps, found -1"),
        ("metrics.jsonl", '{"timesteps": 1, "a": "<b>"}\n', "expected a number"),
        ("diagnostics.jsonl", '{"timesteps": 1, "layers": {"a": 1}}\n', "expected {name: value}"),
        ("evaluation.json", "{}", "expected a record"),
        ("evaluations.npz", "PK\x03\x04", "expected evaluations as an .npz file"),
        ("provenance.json", "{", "expected JSON"),
        ("layers.json", "{", "expected JSON"),
    ],
)
def test_a_damaged_run_is_listed_with_the_reason(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    make_run(tmp_path / "good", seed=1)
    bad = make_run(tmp_path / "bad")
    (bad / name).write_text(content)
    results = read_results([tmp_path])
    assert [run.path.name for run in results.runs] == ["good"]
    ((path, reason),) = results.unreadable
    assert path == bad.resolve()
    assert message in reason
    assert "\n" not in reason


def test_no_damage_to_a_file_is_more_than_a_refusal(tmp_path: Path) -> None:
    draw = random.Random(0)
    original = make_run(tmp_path / "original", points=3)
    names = [path.name for path in original.iterdir()]
    refused = 0
    for trial in range(120):
        folder = Path(shutil.copytree(original, tmp_path / "copy", dirs_exist_ok=True))
        path = folder / names[trial % len(names)]
        path.write_bytes(damaged(path.read_bytes(), draw))
        try:
            read_run(RunFolder(folder))
        except SndqnError:
            refused += 1
    assert refused > 40


def test_a_place_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="expected a study, a run, or a folder with runs"):
        read_results([tmp_path])


def test_a_run_of_another_program_names_its_arm_itself(tmp_path: Path) -> None:
    for arm in ("torch-sn", "sndqn-sn"):
        run = RunFolder(make_run(tmp_path / arm))
        run.provenance.write_text(json.dumps({**run.read_provenance(), "arm": arm}))
    results = read_results([tmp_path])
    assert set(results.arms) == {"sndqn-sn", "torch-sn"}
    assert [len(results.of("MinAtar/Breakout", arm)) for arm in results.arms] == [1, 1]


def test_what_was_done_before_is_not_read_again(tmp_path: Path) -> None:
    make_study(tmp_path, ["MinAtar/Breakout"], 2, points=2)
    going_on = make_run(tmp_path / "going-on", seed=5, score=None, points=2, sn_layers="none")
    before = read_results([tmp_path])
    for run in before.runs:
        (run.path / "metrics.jsonl").write_text("damaged\n")
    (going_on / "metrics.jsonl").write_text('{"timesteps": 1500}\n')
    after = read_results([tmp_path], known=before)
    assert after.unreadable == ()
    assert [run.arm for run in after.runs] == [run.arm for run in before.runs]
    assert {run.course.timesteps for run in after.runs} == {1500, 2000}


def test_a_study_names_its_arms(tmp_path: Path) -> None:
    arms = {"plain": {"sn_layers": "none"}, "ours": {"sn_layers": "-2", "learning_rate": 1e-3}}
    values = {"env": ["CartPole"], "seed": "0..1", "arms": arms}
    study = Study(tmp_path, make_design(values, "a test"))
    study.write()
    first, second, third, _ = study.runs
    study.folder(second).path.mkdir(parents=True)  # its process has only begun
    study.folder(third).path.mkdir(parents=True)
    (study.folder(third).path / "failed.json").write_text("{}")
    make_run(study.folder(first).path, first.env, first.seed, **arms[first.arm])
    results = read_results([tmp_path])
    assert [(run.arm, run.seed) for run in results.runs] == [(first.arm, first.seed)]
    assert results.waiting == 2
    assert [reason for _, reason in results.unreadable] == ["failed before its training began"]
