"""Names of runs tell them apart, and every file system takes them."""

import re
from typing import Any

import pytest

from sndqn.errors import ConfigError
from sndqn.training.config import make_config
from sndqn.training.config_files import layered_config
from sndqn.training.labels import run_label


def label(config: str | None = None, **flags: Any) -> str:
    return run_label(layered_config({"env": "Breakout", **flags}, config), flags)


def test_the_name_says_the_configuration_sn_and_what_flags_changed() -> None:
    assert label() == "dqn-sn-2-seed0"
    assert label("rainbow") == "rainbow-snnone-seed0"
    assert label("rainbow", sn_layers="convs", learning_rate="1e-4", seed=3) == (
        "rainbow-snconvs-lr0.0001-seed3"
    )
    assert label("m-iqn", total_timesteps="2e5", n_envs=4) == "m-iqn-snnone-steps200000-envs4-seed0"
    assert label("btr") == "btr-snresidual-seed0"
    assert label(algo="c51") == label("c51") == "c51-snnone-seed0"
    assert label("dqn", dueling=True, overlap=False, sn_mode="shrink", sn_bound=2) == (
        "dqn-sn-2-dueling-no-overlap-shrink-bound2-seed0"
    )
    assert label(net_arch="64,32", sn_layers="-2,-3") == "dqn-sn-2+-3-net64x32-seed0"
    assert label(init_from="runs/Pong/dqn-sn-2-seed0-x/") == "dqn-sn-2-from-dqn-sn-2-seed0-x-seed0"


def test_what_changes_nothing_that_is_learnt_is_left_out() -> None:
    machine = {"device": "cpu", "threads": 1, "tensorboard": False, "runs_dir": "/a/b", "seed": 0}
    assert label(**machine, eval_episodes=5, log_every_timesteps=10) == "dqn-sn-2-seed0"


def test_a_name_is_short_safe_and_the_same_for_the_same_flags() -> None:
    flags: dict[str, Any] = {
        "env_changes": "500: {sticky_actions: 0.25}",
        "init_from": "../odd name/with: signs*?/" + "x" * 100,
        "sn_layers": "q_net.0,q_net.streams.value.0,features_extractor.cnn.0",
        "learning_rate": 1e-4,
        "batch_size": 64,
        "target_update_interval": 1234,
        "n_steps": 3,
        "double": True,
        "prioritized": True,
        "max_grad_norm": 5.0,
        "gamma": 0.9,
    }
    name = label("rainbow", **flags)
    assert re.fullmatch(r"[A-Za-z0-9._+-]{1,160}", name)
    assert name == label("rainbow", **flags)
    assert name != label("rainbow", **{**flags, "gamma": 0.8})
    assert "/" not in name


def test_a_title_is_the_files_or_the_one_typed_and_comes_back_from_a_runs_own_config(
    tmp_path: Any,
) -> None:
    path = tmp_path / "my settings.yaml"
    path.write_text("batch_size: 7\n")
    config = layered_config({"env": "Breakout"}, str(path))
    assert config.title == "my-settings"
    typed = layered_config({"env": "Breakout", "title": "mine"}, str(path))
    assert run_label(typed) == "mine-sn-2-seed0"
    again = tmp_path / "config.yaml"
    for written in (typed, layered_config({"env": "Breakout"})):
        again.write_text(written.to_yaml())
        assert layered_config({"env": "Breakout"}, str(again)) == written
    with pytest.raises(ConfigError, match="title"):
        make_config({"env": "Breakout", "title": "../up"})
