"""The whole: what a configuration becomes, and that a run depends on nothing else."""

import io
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from stable_baselines3.common.results_plotter import load_results

from sndqn.agents import load_agent
from sndqn.envs import make_vec_env
from sndqn.errors import RunFolderError, SelectionError
from sndqn.policies import SNDQNPolicy
from sndqn.spectral import exact_norm, weight_layers
from sndqn.training.build import build_algorithm, network_spec
from sndqn.training.config import TrainConfig, make_config
from sndqn.training.layers import read_layers
from sndqn.training.plan import env_settings
from sndqn.training.run import resume, train
from sndqn.training.signals import TrainingStopped

SMALL = {"total_timesteps": 400, "learning_starts": 100, "eval_episodes": 1, "eval_max_steps": 200}


def config(**values: Any) -> TrainConfig:
    return make_config({"env": "CartPole", "batch_size": 16, **SMALL, **values})


def model_of(settings: TrainConfig) -> Any:
    env = make_vec_env(env_settings(settings), settings.n_envs, seed=0)
    return build_algorithm(settings, env, network_spec(settings, env.observation_space))


@pytest.mark.parametrize("n_envs", [1, 2, 4, 8, 16])
def test_updates_per_step_do_not_depend_on_the_number_of_environments(n_envs: int) -> None:
    model = model_of(config(train_freq=4, gradient_steps=2, n_envs=n_envs))
    model.learn(400)
    assert model._n_updates == pytest.approx((400 - 100) / 4 * 2, abs=16)


@pytest.mark.parametrize(
    ("env", "values"),
    [
        ("CartPole", {"dueling": True, "double": True, "sn_layers": "all"}),
        ("CartPole", {"optimizer": "rmsprop", "loss": "mse", "tau": 0.01, "n_envs": 4}),
        ("MinAtar/Breakout", {"channels": "8,8", "features_dim": 32, "sn_layers": "-2,-3"}),
        ("MinAtar/Seaquest", {"sn_conv_norm": "kernel", "sn_layers": "convs"}),
        ("LunarLander", {"sn_bound": "initial", "sn_mode": "shrink"}),
        ("Acrobot", {"sn_layers": "none", "eval_every_timesteps": 200}),
    ],
)
def test_a_run_ends_with_an_agent_that_holds_its_bounds(
    env: str, values: dict[str, Any], tmp_path: Path
) -> None:
    run = train(config(env=env, runs_dir=str(tmp_path), **values))
    agent = load_agent(run.agent)
    assert agent.description.timesteps >= 400
    for row in read_layers(run)["after"]:
        if row.mode == "normalize":
            assert row.effective == pytest.approx(row.bound, rel=0.02)
        if row.mode == "shrink":
            assert row.bound is not None
            assert row.effective <= row.bound * 1.02
    assert run.evaluation.is_file()


def test_atari_trains_and_evaluates(tmp_path: Path) -> None:
    settings = config(
        env="Breakout", runs_dir=str(tmp_path), total_timesteps=60, learning_starts=40,
        eval_max_steps=30, n_envs=2,
    )  # fmt: skip
    run = train(settings)
    assert [row.index for row in read_layers(run)["after"]] == [-5, -4, -3, -2, -1]


def test_equal_configurations_give_equal_agents_and_other_seeds_others(tmp_path: Path) -> None:
    runs = [
        train(config(runs_dir=str(tmp_path / name), seed=seed))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    a, b, c = (run.agent.read_bytes() for run in runs)
    assert a == b
    assert a != c


def test_a_bad_selection_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SelectionError):
        train(config(runs_dir=str(tmp_path), sn_layers="-7"))
    assert not list(tmp_path.iterdir())


def test_the_first_line_says_what_the_name_means(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config(runs_dir=str(tmp_path)), Console())
    assert capsys.readouterr().out.splitlines()[0].startswith("CartPole-v1: Gymnasium")


def test_the_policy_builds_the_network_the_agent_file_describes() -> None:
    settings = config(net_arch="8,8", dueling=True, activation="tanh")
    model = model_of(settings)
    assert isinstance(model.policy, SNDQNPolicy)
    assert model.policy.spec == network_spec(settings, model.observation_space)


def test_the_kept_agent_is_the_best_of_the_evaluations_and_not_the_last(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "total_timesteps": 3000,
        "learning_starts": 200,
        "eval_every_timesteps": 300,
        "learning_rate": 1e-2,
    }
    kept = train(config(runs_dir=str(tmp_path / "kept"), keep_best=True, **values))
    last = train(config(runs_dir=str(tmp_path / "last"), **values))
    assert kept.metrics.read_text().count("eval/mean_return") == 10
    records = [json.loads(line) for line in kept.metrics.read_text().splitlines()]
    evaluated = [record for record in records if "eval/mean_return" in record]
    assert max(r["eval/mean_return"] for r in evaluated) > evaluated[-1]["eval/mean_return"]
    assert kept.agent.read_bytes() != last.agent.read_bytes()
    highest = max(record["eval/mean_return"] for record in evaluated)
    best = [record for record in evaluated if record["eval/mean_return"] == highest]
    about = kept.read_provenance()["kept"]
    assert about == {"step": best[-1]["timesteps"], "mean_return": best[-1]["eval/mean_return"]}
    assert load_agent(kept.agent).description.timesteps == about["step"]
    assert load_agent(last.agent).description.timesteps == 3000


def test_keeping_the_best_leaves_the_metrics_those_of_the_training(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "total_timesteps": 1500,
        "learning_starts": 200,
        "eval_every_timesteps": 300,
        "learning_rate": 1e-2,
        "log_every_timesteps": 500,
    }
    kept = train(config(runs_dir=str(tmp_path / "kept"), keep_best=True, **values))
    last = train(config(runs_dir=str(tmp_path / "last"), **values))
    assert kept.agent.read_bytes() != last.agent.read_bytes()
    assert kept.metrics.read_text() == last.metrics.read_text()


@pytest.mark.parametrize(("env", "conv_norm"), [("CartPole", "operator"), ("Pong", "kernel")])
def test_sigma_of_every_layer_is_logged_and_logging_changes_no_bit(
    env: str, conv_norm: str, tmp_path: Path
) -> None:
    values: dict[str, Any] = {"env": env, "sn_conv_norm": conv_norm, "total_timesteps": 120}
    if env == "Pong":
        values |= {"net_arch": None, "features_dim": None}
    agents = []
    for every in (20, 1000):
        run = train(
            config(
                **values,
                learning_starts=40,
                sn_layers="-2",
                log_every_timesteps=every,
                runs_dir=str(tmp_path / str(every)),
            )
        )
        record = json.loads(run.metrics.read_text().splitlines()[-1])
        agent = load_agent(run.agent)
        logged = {name: value for name, value in record.items() if name.endswith("/sigma")}
        layers = weight_layers(agent.network)
        assert list(logged) == sorted(f"sn/{entry.name}/sigma" for entry in layers)
        for entry in layers:
            exact = exact_norm(entry.layer.weight)  # a kernel as a matrix
            assert logged[f"sn/{entry.name}/sigma"] == pytest.approx(exact, rel=0.02)
        agents.append(run.agent.read_bytes())
    assert agents[0] == agents[1]


COMPARED = (
    "agent.safetensors",
    "episodes.jsonl",
    "evaluation.json",
    "layers.json",
    "metrics.jsonl",
)


class StopsAt(io.StringIO):
    """A terminal at which somebody stops the program once it shows some words."""

    def __init__(self, words: str, signum: int) -> None:
        super().__init__()
        self.words, self.signum = words, signum

    def write(self, text: str) -> int:
        if self.words in text:
            self.words = "\0"
            signal.raise_signal(self.signum)
        return super().write(text)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("tasks", ["CartPole", "MinAtar/Breakout,MinAtar/Freeway"])
def test_an_evaluation_that_a_signal_stopped_is_made_by_resuming_as_if_nothing_had_been(
    signum: int, tasks: str, tmp_path: Path
) -> None:
    values: dict[str, Any] = {"env": tasks, "eval_episodes": 3, "total_timesteps": 400}
    whole = train(config(runs_dir=str(tmp_path / "whole"), **values))
    console = Console(file=StopsAt("/3: return", signum), width=1000)
    with pytest.raises(TrainingStopped):
        train(config(runs_dir=str(tmp_path / "stopped"), **values), console)
    (run,) = (tmp_path / "stopped").glob("*/*/")
    said = console.file.getvalue()
    assert f"sndqn train --resume {run}" in said
    assert "its evaluation is not" in said
    trained = {path: path.stat().st_mtime_ns for path in run.rglob("metrics.jsonl")}

    again = Console(file=io.StringIO(), width=1000)
    resume(run, again)
    assert "Goes on from the evaluation" in again.file.getvalue()
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    names = [p.relative_to(whole.path) for p in whole.path.rglob("*") if p.is_file()]
    compared = [name for name in names if name.name in COMPARED]
    assert {name.name for name in compared} == set(COMPARED)
    for name in compared:
        assert (run / name).read_bytes() == (whole.path / name).read_bytes(), name
    with pytest.raises(RunFolderError, match="is finished"):
        resume(run)


def test_a_learning_rate_may_fall_to_zero() -> None:
    model = model_of(config(learning_rate=0.5, learning_rate_decay=True))
    assert model.lr_schedule(1.0) == 0.5
    assert model.lr_schedule(0.0) == 0.0


def test_training_leaves_the_processors_arithmetic_as_it_was(tmp_path: Path) -> None:
    train(config(runs_dir=str(tmp_path)))
    assert float(torch.tensor(1e-40) * 1) > 0, "denormal numbers are numbers again"


def test_the_curve_has_every_return_of_the_evaluations_on_the_way(tmp_path: Path) -> None:
    run = train(config(runs_dir=str(tmp_path), eval_every_timesteps=150, eval_episodes=3))
    with np.load(run.curve) as curve:
        found = {name: curve[name] for name in curve}
    assert found["timesteps"].tolist() == [152, 300]  # at the first block's end from there
    assert found["results"].shape == found["ep_lengths"].shape == (2, 3)
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    logged = [each["eval/mean_return"] for each in records if "eval/mean_return" in each]
    assert found["results"].mean(axis=1).tolist() == pytest.approx(logged)
    games = load_results(str(run.path))
    assert games["l"].sum() <= 400
    assert (games["r"] == games["l"]).all()  # CartPole's reward is one a step
