"""A tuning tries what it says, goes on after a kill, and tells its best from its lucky."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import SMALL, wait_until

from sndqn.errors import ConfigError, RunFolderError, ScoresError
from sndqn.study.curves import clopper_pearson
from sndqn.study.folder import Study
from sndqn.study.space import Choice, Range, read_space
from sndqn.study.tolerance import tolerances
from sndqn.study.tuned import best_of
from sndqn.study.tuning import TuningFolder, make_tuning
from sndqn.training.config_files import layered_config

CONTENT: dict[str, Any] = {
    "env": "CartPole",
    "settings": {**SMALL, "eval_every_timesteps": 500},
    "arms": {"none": {"sn_layers": "none"}, "sn": {"sn_layers": "-2"}},
    "search": {"learning_rate": "1e-4..1e-2", "activation": ["relu", "tanh"]},
    "trials": 2,
    "random_trials": 2,
    "fresh_seed": [7],
}


def test_a_range_of_numbers_is_on_a_log_scale_from_tenfold_on() -> None:
    search = {"learning_rate": "1e-5..1e-2", "gamma": "0.9..0.99", "batch_size": "32..256"}
    space = read_space(search, "here")
    assert space["learning_rate"] == Range(1e-5, 1e-2, whole=False)
    assert [each.log for each in space.values() if isinstance(each, Range)] == [True, False, False]
    assert space["batch_size"] == Range(32, 256, whole=True)
    assert read_space({"net_arch": ["64", "64,64"]}, "here") == {
        "net_arch": Choice(("64", "64,64"))
    }


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"learning_rat": "1..2"}, "did you mean learning_rate"),
        ({"learning_rate": "2..1"}, "from low to high"),
        ({"learning_rate": ["1e-3"]}, "expected a range"),
        ({"learning_rate": ["1e-3", "1e-3"]}, "several different values"),
        ({"batch_size": "1.5..8"}, "whole numbers"),
        ({"activation": "1..2"}, "list several"),
        ({"seed": "0..9"}, "learnt by"),
    ],
)
def test_what_cannot_be_searched_is_refused(search: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_space(search, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": None}, "env"),
        ({"surprise": 1}, "found surprise"),
        ({"settings": {"learning_rate": 1e-3}}, "learning_rate is searched"),
        ({"trials": 0}, "trials"),
        ({"arms": {"a": {"sn_layer": "-2"}}}, "did you mean sn_layers"),
    ],
)
def test_a_wrong_tuning_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_tuning({**CONTENT, **change}, "here")


def test_another_tuning_in_the_folder_is_refused_but_more_trials_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "tuning"
    TuningFolder.make(folder, make_tuning(CONTENT, "here"))
    more = TuningFolder.make(folder, make_tuning({**CONTENT, "trials": 5}, "here"))
    assert TuningFolder.open(folder).tuning == more.tuning
    with pytest.raises(ConfigError, match="another tuning"):
        TuningFolder.make(folder, make_tuning({**CONTENT, "env": "Acrobot"}, "here"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(RunFolderError, match="something else"):
        TuningFolder.make(tmp_path / "full", make_tuning(CONTENT, "here"))


@settings(deadline=None)  # scipy is imported in the first example
@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(1, 100))
def test_the_tolerance_is_the_share_that_reaches_the_bar(scores: list[float], top: float) -> None:
    best = {"a": max(*scores, top), "b": 50.0}
    found = tolerances({"a": scores, "b": [50.0, 44.9]}, best)
    bar = 0.9 * best["a"]
    assert found["a"].own.value == sum(score >= bar for score in scores) / len(scores)
    assert found["b"].own.value == 0.5
    low, high = clopper_pearson(sum(score >= bar for score in scores), len(scores), 0.025)
    assert (found["a"].own.low, found["a"].own.high) == (low, high)
    assert found["b"].common.value <= found["b"].own.value


def test_what_learnt_nothing_has_no_tolerance() -> None:
    with pytest.raises(ScoresError, match="train longer"):
        tolerances({"a": [1.0]}, {"a": 1.0}, lowest=1.7)


def start(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "sndqn.cli", "tune", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
    )


def test_a_tuning_that_is_killed_goes_on_and_ends_with_the_best_on_fresh_seeds(
    tmp_path: Path,
) -> None:
    folder, file = tmp_path / "tuning", tmp_path / "tune.yaml"
    file.write_text(json.dumps({**CONTENT, "arms": {"sn": {"sn_layers": "-2"}}}))
    killed = start(folder, "--file", file, "--jobs", 1)
    wait_until(lambda: any(folder.glob("trials/*/runs/*/metrics.jsonl")))
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    begun = {path.name for path in folder.glob("trials/*")}

    done = start(folder, "--jobs", 2)
    output, _ = done.communicate(timeout=300)
    assert done.returncode == 0, output
    tuning = TuningFolder.open(folder)
    trials = tuning.optuna_study("sn").get_trials(deepcopy=False)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]
    assert [trial.user_attrs["random"] for trial in trials] == [True, True]
    assert {path.name for path in folder.glob("trials/*")} == {"sn-0000", "sn-0001"} >= begun

    best, study = best_of(tuning), Study.open(folder / "best")
    assert {run.seed for run in study.runs} == {7}
    for run in study.runs:
        assert study.status(run) == "done"
        assert run.settings["learning_rate"] == best[run.arm].points["learning_rate"]
    config = layered_config({"env": "CartPole"}, str(folder / "best-sn.yaml"))
    assert config.learning_rate == best["sn"].points["learning_rate"]
    assert config.sn_layers == "-2"
    assert "on fresh seeds" in output


def test_an_arm_that_lags_is_given_up_and_ctrl_c_keeps_what_there_is(tmp_path: Path) -> None:
    folder, file = tmp_path / "tuning", tmp_path / "tune.yaml"
    long = {**SMALL, "total_timesteps": 10**6, "eval_every_timesteps": 200}
    one_arm = {**CONTENT, "arms": {}, "settings": long, "random_trials": 2, "trials": 3}
    file.write_text(json.dumps(one_arm))
    tuning = TuningFolder.make(folder, make_tuning(one_arm, "here"))
    study = tuning.optuna_study("tuned")
    for _ in range(2):  # two trials that did better than anything here can
        trial = study.ask()
        trial.set_user_attr("random", True)
        for name, dimension in tuning.tuning.space().items():
            dimension.suggest(trial, name)
        for step in range(200, 10_000, 200):
            trial.report(1e6, step)
        study.tell(trial, 1e6)
    process = start(folder, "--jobs", 1)
    wait_until(lambda: study.get_trials(deepcopy=False)[-1].state == optuna.trial.TrialState.PRUNED)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert "given up at step" in output
    assert "Traceback" not in output
