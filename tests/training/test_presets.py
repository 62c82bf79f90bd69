"""Each shipped configuration trains, saves, loads and evaluates."""

from pathlib import Path
from typing import Any

import pytest

from sndqn.agents import load_agent
from sndqn.training.build import update_rhythm
from sndqn.training.config import make_config
from sndqn.training.config_files import layered_config, read_config, shipped_configs
from sndqn.training.layers import read_layers
from sndqn.training.run import train

ENVS = {"atari": "Breakout", "minatar": "MinAtar/Asterix", "control": "CartPole"}
OWN_ENV = {"acrobot": "Acrobot", "lunarlander": "LunarLander", "mountaincar": "MountainCar"}
TINY: dict[str, Any] = {
    "total_timesteps": 80,
    "learning_starts": 64,
    "buffer_size": 100,
    "batch_size": 4,
    "exploration_warmup_timesteps": 0,
    "eval_episodes": 1,
    "eval_max_steps": 20,
    "eval_every_timesteps": 40,
    "keep_best": False,
    "compile": "never",
    "tensorboard": False,
}


def env_of(name: str) -> str:
    suite, _, title = name.partition("/")
    return OWN_ENV.get(title.rpartition("-")[2], ENVS[suite])


# The others differ from one of these in numbers alone, but for btr, whose network is large.
SLOW = (
    *("atari/btr", "atari/dqn-adam", "atari/dqn-nature", "atari/m-iqn", "atari/dqn"),
    *("atari/dopamine-dqn-adam", "atari/dopamine-c51", "atari/dopamine-iqn", "atari/dqn-small"),
)


# Every source of randomness: noise in the network, drawn quantiles, a replay by priorities.
QUICK = ("control/rainbow-cartpole", "control/iqn-cartpole", "minatar/young-tian")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in shipped_configs()],
)
def test_each_preset_trains_saves_loads_and_evaluates(name: str, tmp_path: Path) -> None:
    tiny = {**TINY, "n_envs": min(read_config(name).get("n_envs", 1), 4)}
    config = make_config(
        {**read_config(name), **tiny, "env": env_of(name), "runs_dir": str(tmp_path)}
    )
    run = train(config)
    agent = load_agent(run.agent)
    assert agent.description.algo == config.algo
    assert agent.description.network.noisy == config.noisy
    assert run.evaluation.is_file()
    held = [row for row in read_layers(run)["after"] if row.bound is not None]
    assert all(row.effective == pytest.approx(row.bound, rel=0.05) for row in held) or (
        config.sn_conv_norm == "kernel"
    )
    assert bool(held) == (config.sn_layers != "none")


@pytest.mark.parametrize("name", shipped_configs())
def test_each_preset_evaluates_on_the_way(name: str) -> None:
    config = make_config({**read_config(name), "env": env_of(name)})
    assert 6 <= config.total_timesteps / config.eval_every_timesteps <= 100


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in shipped_configs()],
)
def test_evaluations_on_the_way_change_no_bit_of_a_training(name: str, tmp_path: Path) -> None:
    tiny = {**TINY, "total_timesteps": 120, "n_envs": min(read_config(name).get("n_envs", 1), 4)}
    agents = []
    for every in (0, 32):  # before the first update, between updates, and at the end
        runs_dir = str(tmp_path / str(every))
        values = {**read_config(name), **tiny, "env": env_of(name), "runs_dir": runs_dir}
        run = train(make_config({**values, "eval_every_timesteps": every}))
        agents.append(run.agent.read_bytes())
        assert run.curve.is_file() == bool(every)
    assert agents[0] == agents[1]


@pytest.mark.parametrize("name", shipped_configs())
def test_each_preset_makes_updates_at_the_ratio_it_states(name: str) -> None:
    config = make_config({**read_config(name), "env": env_of(name)})
    vector_steps, updates = update_rhythm(config)
    assert updates / (vector_steps * config.n_envs) == config.gradient_steps / config.train_freq


@pytest.mark.parametrize("name", shipped_configs())
def test_a_configuration_has_no_sn_if_its_paper_has_none_or_it_was_tuned_without(name: str) -> None:
    layers = make_config({**read_config(name), "env": "x"}).sn_layers
    title = name.partition("/")[2].removesuffix("-cartpole")
    if title.startswith("dopamine-") or title in (
        *(
            "dqn-nature",
            "dqn-adam",
            "c51",
            "qr-dqn",
            "iqn",
            "m-iqn",
            "rainbow",
            "der",
            "young-tian",
        ),
        "dqn-small",
    ):
        assert read_config(name)["sn_layers"] == layers == "none"
    else:
        assert layers == ("residual" if title == "btr" else "-2")


def test_a_flag_puts_sn_on_a_papers_agent() -> None:
    plain = layered_config({"env": "Breakout"}, "c51")
    held = layered_config({"env": "Breakout", "sn_layers": "-2"}, "c51")
    assert (plain.sn_layers, held.sn_layers) == ("none", "-2")
    assert held == plain.model_copy(update={"sn_layers": "-2"})


def test_a_shipped_name_is_found_for_its_suite_and_environment() -> None:
    found = layered_config({"env": "CartPole"}, "rainbow")
    assert (found.algo, found.noisy, found.v_max) == ("c51", True, 100.0)
    assert layered_config({"env": "Pong"}, "rainbow").v_max == 10.0
    assert layered_config({"env": "Acrobot", "algo": "c51"}).n_atoms == 101
    assert layered_config({"env": "Pong"}, "dqn-nature").optimizer == "rmsprop"


def test_a_file_lies_on_top_of_the_suites_own_configuration(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("algo: qr-dqn\nbatch_size: 7\n")
    config = layered_config({"env": "MinAtar/Breakout", "gamma": 0.5}, str(path))
    assert (config.algo, config.batch_size, config.n_quantiles) == ("qr-dqn", 7, 51)
    assert config.gamma == 0.5
