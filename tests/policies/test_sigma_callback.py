"""SigmaCallback: σ of every layer under SB3's, sb3-contrib's and sndqn's algorithms."""

from typing import Any

import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.logger import Logger

import sndqn

FAST: dict[str, Any] = {"learning_starts": 20, "buffer_size": 200, "batch_size": 8, "seed": 0}


def records(model: Any, **arguments: Any) -> dict[str, float]:
    """Trains a model under the callback; gives the last record of its layers."""
    model.set_logger(Logger(None, []))
    model.learn(60, callback=sndqn.SigmaCallback(20, **arguments))
    return {k: v for k, v in model.logger.name_to_value.items() if k.startswith("sn/")}


def test_sigma_of_each_layer_and_the_bound_of_the_normalised_one_are_logged() -> None:
    model = DQN(sndqn.SNMlpPolicy, "CartPole-v1", **FAST)
    found = records(model)
    assert found["sn/q_net.2/bound"] == 1.0
    assert found.keys() == {f"sn/q_net.{i}/sigma" for i in (0, 2, 4)} | {"sn/q_net.2/bound"}
    layers: Any = model.q_net
    for index in (0, 2, 4):
        weight = layers.q_net[index].weight
        exact = float(torch.linalg.matrix_norm(weight.detach(), 2))
        assert found[f"sn/q_net.{index}/sigma"] == pytest.approx(exact, rel=0.02)


def test_stock_and_contributed_policies_are_measured_too() -> None:
    assert records(DQN("MlpPolicy", "CartPole-v1", **FAST)).keys() == {
        f"sn/q_net.{i}/sigma" for i in (0, 2, 4)
    }
    contrib = pytest.importorskip("sb3_contrib")
    found = records(contrib.QRDQN("MlpPolicy", "CartPole-v1", **FAST))
    assert len(found) == 3


def test_a_line_at_the_start_says_which_layers_are_normalised(
    capsys: pytest.CaptureFixture[str],
) -> None:
    records(sndqn.DQN("SNMlpPolicy", "CartPole-v1", **FAST), verbose=1)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("SN on layer -2 (q_net.2): σ is held at 1. σ of the weights: q_net.0 ")


def test_the_line_tells_the_settings_that_the_policy_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = {"sn_layers": "-1", "sn_bound": 2.0, "sn_mode": "shrink"}
    records(DQN(sndqn.SNMlpPolicy, "CartPole-v1", policy_kwargs=arguments, **FAST), verbose=1)
    assert "layer -1 (q_net.4): σ is held at or below 2." in capsys.readouterr().out


def test_measuring_changes_no_bit_of_the_training() -> None:
    finals = []
    for callback in (None, sndqn.SigmaCallback(1)):
        model = DQN(sndqn.SNMlpPolicy, "CartPole-v1", **FAST)
        model.set_logger(Logger(None, []))
        model.learn(60, callback=callback)
        finals.append(model.policy.parameters_to_vector().tobytes())
    assert finals[0] == finals[1]
