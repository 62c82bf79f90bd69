"""The configuration: what it takes, what it refuses, and in which words."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sndqn.errors import ConfigError
from sndqn.files.shipped import shipped_dir
from sndqn.training.config import TrainConfig, make_config
from sndqn.training.config_files import (
    layered_config,
    read_config,
    shipped_configs,
    shipped_for,
)


def test_a_configuration_round_trips_through_its_yaml(tmp_path: Path) -> None:
    config = make_config({"env": "CartPole", "net_arch": "64,32", "sn_layers": [-2, -3]})
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert make_config(read_config(str(path))) == config


@pytest.mark.parametrize(
    ("given_value", "meant"),
    [("1e6", 1_000_000), (1e6, 1_000_000), ("200000", 200_000), ("1_000_000", 1_000_000)],
)
def test_whole_numbers_may_be_written_with_an_exponent(given_value: Any, meant: int) -> None:
    assert make_config({"env": "x", "total_timesteps": given_value}).total_timesteps == meant


@pytest.mark.parametrize(
    ("written", "meant"), [(-2, "-2"), ([-2, -3], "-2,-3"), ("convs", "convs"), ("none", "none")]
)
def test_selections_are_taken_as_yaml_writes_them(written: Any, meant: str) -> None:
    assert make_config({"env": "x", "sn_layers": written}).sn_layers == meant


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected greater than 0, found 0"),
        ({"batch_size": 2**21}, "batch_size: expected less than or equal to 1048576, found"),
        ({"net_arch": "64,0"}, "net_arch: expected greater than 0, found '0'"),
        ({"net_arch": [-5]}, "net_arch: expected greater than 0, found -5"),
        ({"net_arch": [1] * 33}, "net_arch: expected at most 32 items, found"),
        ({"channels": "-3"}, "channels: expected greater than 0, found '-3'"),
        ({"channels": []}, "channels: expected at least 1 item, found"),
        ({"width": 10**9}, "width: expected less than or equal to 1024, found"),
        ({"sn_bound": "nan"}, "sn_bound: expected a finite number or 'initial', found 'nan'"),
        ({"batch_size": "many"}, "batch_size: expected an integer, found 'many'"),
        ({"batch_size": True}, "batch_size: expected a number, found True"),
        ({"batch_size": 1.5}, "batch_size: expected"),
        ({"gamma": 1.1}, "gamma: expected less than or equal to 1, found 1.1"),
        ({"gamma": float("nan")}, "gamma: expected"),
        ({"learning_rate": float("inf")}, "learning_rate: expected"),
        ({"algo": "sarsa"}, "algo: expected 'dqn', 'c51', 'qr-dqn' or 'iqn', found 'sarsa'"),
        ({"bacth_size": 3}, "'bacth_size': did you mean batch_size?"),
        ({"zzz": 3}, "`sndqn train --help` lists them"),
        ({"sn_bound": 0}, 'sn_bound: expected a positive number or "initial", found 0'),
        ({"device": "gpu"}, "device: expected auto, cpu, cuda"),
        ({"total_timesteps": 100, "learning_starts": 100}, "nothing would be learnt"),
        ({"buffer_size": 8}, "expected at least batch_size"),
        ({"n_envs": 3}, "expected a divisor or a multiple of train_freq"),
        ({"keep_best": True}, "Type --eval-every-timesteps"),
        ({"seed": 2**31}, "seed: expected less than"),
        ({"n_atoms": 51}, "n_atoms: belongs to c51, found algo dqn. Type --algo c51"),
        ({"sn_mode": "init", "sn_bound": "initial"}, "sn_mode init: scales initial weights to a b"),
        ({"sn_mode": "init", "init_from": "x"}, "found init_from, whose weights take their place"),
        ({"optimizer_eps_layers": "-2"}, "optimizer_eps_layers: expected {name: value}, found"),
        ({"optimizer_eps_layers": "-2: 0"}, "optimizer_eps_layers: expected greater than 0, found"),
        (
            {"optimizer_eps_layers": "-2: 1", "optimizer": "sgd"},
            "an optimiser with an ε, found sgd",
        ),
        (
            {"optimizer_eps_layers": "-2: 1", "env": "x,y"},
            "expected one environment, found several",
        ),
        ({"weight_decay": -1}, "weight_decay: expected greater than or equal to 0, found -1"),
        ({"env_changes": {9: {"wrappers": []}}}, "expected settings of the environment, found 'wr"),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected_and_found(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        make_config({"env": "CartPole", **values})
    assert message in str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 2


def test_a_missing_environment_says_what_to_type() -> None:
    with pytest.raises(ConfigError, match="Type --env NAME, such as --env Breakout"):
        make_config({})


@given(
    st.dictionaries(
        st.sampled_from(sorted(TrainConfig.model_fields)) | st.text(max_size=8),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.lists(st.integers(), max_size=3)
        | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        max_size=6,
    )
)
def test_any_values_make_a_configuration_or_a_short_refusal(values: dict[str, Any]) -> None:
    refusal, config = None, None
    try:
        config = make_config(values)
    except ConfigError as error:
        refusal = str(error)
    if config is None:
        assert 1 <= len(str(refusal).splitlines()) <= 2
    else:
        assert make_config(yaml.safe_load(config.to_yaml())) == config


@given(st.binary(max_size=200))
def test_any_bytes_make_a_configuration_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("configs") / "config.yaml"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        make_config(read_config(str(path)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", "stands twice"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("!!python/object/apply:os.system ['true']\n", "not readable"),
        ("- 1\n- 2\n", "expected lines of `setting: value`, found a list"),
        ("batch-size: 3\n", "did you mean batch_size?"),
        ("x: [" + "[" * 2000, "not readable"),
        ("#" * 70000, "expected at most"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(str(path))


def test_an_unknown_configuration_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="atari/dqn-nature"):
        read_config("nope")


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_configuration_is_valid_and_says_its_source(name: str) -> None:
    suite, _ = name.split("/")
    env = {"atari": "Breakout", "minatar": "MinAtar/Breakout", "control": "CartPole"}[suite]
    config = layered_config({"env": env}, name)
    values = read_config(name)
    assert config.algo == values.get("algo", "dqn")
    assert config.gamma == values["gamma"]
    assert (shipped_dir("configs") / f"{name}.yaml").read_text().startswith("# ")


def test_flags_win_over_a_file_and_a_file_over_the_shipped_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("batch_size: 16\ngamma: 0.9\n")
    config = layered_config({"env": "CartPole", "gamma": "0.8"}, str(path))
    assert config.gamma == 0.8
    assert config.batch_size == 16
    assert config.learning_rate == read_config("control/dqn-cartpole")["learning_rate"]


def test_a_shipped_configuration_is_found_by_its_short_name() -> None:
    assert shipped_for("atari", "breakout", "dqn-nature") == "atari/dqn-nature"
    assert shipped_for("control", "cartpole", "c51") == "control/c51-cartpole"
    assert shipped_for("control", "acrobot", "c51") == "control/c51"
    assert shipped_for("control", "acrobot", "nope") is None


def test_the_module_before_an_environment_is_one_to_import() -> None:
    config = make_config({"env": "mine:my/Walk-v0,mine:my/Run-v0", "imports": "other"})
    assert (config.env, config.imports) == ("my/Walk-v0,my/Run-v0", ("other", "mine"))
    assert make_config(yaml.safe_load(config.to_yaml())) == config
