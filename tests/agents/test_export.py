"""Agents for other tools: whoever loads the file without sndqn gets the same values and actions."""

import io
import zipfile
from typing import Any

import numpy as np
import onnxruntime
import pytest
import stable_baselines3
import torch
from agent_files import agent_bytes

from sndqn.agents import Agent, agent_from_bytes
from sndqn.agents.export import effective_network, to_onnx, to_sb3
from sndqn.errors import AgentFileError
from sndqn.networks import NetworkSpec, SpectralSettings
from sndqn.spectral import SpectralLayer

NONE = SpectralSettings("none")
NATURE = NetworkSpec("nature_cnn", spectral=SpectralSettings("all", bound=0.7))


def agent_of(spec: NetworkSpec, env: str = "CartPole", algo: str = "dqn") -> Agent:
    return agent_from_bytes(agent_bytes(spec, env, algo), "file")


def observations(agent: Agent, count: int) -> np.ndarray:
    space = agent.network.observation_space
    space.seed(1)
    return np.stack([space.sample() for _ in range(count)])


def values_of(agent: Agent, batch: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        values: np.ndarray = agent.network(torch.as_tensor(batch)).numpy()
    return values


@pytest.mark.parametrize(
    ("spec", "env", "algo"),
    [
        (NetworkSpec("mlp", spectral=SpectralSettings("all", mode="shrink")), "CartPole", "dqn"),
        (NetworkSpec("mlp", dueling=True, noisy=True, spectral=NONE), "CartPole", "dqn"),
        (NetworkSpec("minatar_cnn", head="categorical"), "MinAtar/Breakout", "c51"),
        (NetworkSpec("mlp", head="implicit_quantile"), "CartPole", "iqn"),
        (NATURE, "Breakout", "dqn"),
        (NetworkSpec("nature_cnn", normalization="batch"), "Breakout", "dqn"),
    ],
)
def test_the_effective_network_is_plain_and_computes_the_same(
    spec: NetworkSpec, env: str, algo: str
) -> None:
    agent = agent_of(spec, env, algo)
    network = effective_network(agent)
    layers = {type(m) for m in network.modules() if isinstance(m, torch.nn.Linear)}
    assert layers == {torch.nn.Linear}
    assert not any(isinstance(m, SpectralLayer) for m in network.modules())
    batch = observations(agent, 20)
    with torch.no_grad():
        values = network(torch.as_tensor(batch)).numpy()
    np.testing.assert_allclose(values, values_of(agent, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "env"),
    [
        (NetworkSpec("mlp", net_arch=(16, 8), activation="tanh"), "CartPole"),
        (NetworkSpec("mlp", {"features_dim": 8}, net_arch=(4,)), "CartPole"),
        (NetworkSpec("mlp", noisy=True, spectral=NONE), "Acrobot"),
        (NATURE, "Breakout"),
    ],
)
def test_stable_baselines3_loads_the_zip_and_acts_the_same(spec: NetworkSpec, env: str) -> None:
    agent = agent_of(spec, env)
    model = stable_baselines3.DQN.load(io.BytesIO(to_sb3(agent)), device="cpu")
    batch = observations(agent, 50)
    actions, _ = model.predict(batch, deterministic=True)
    np.testing.assert_array_equal(actions, values_of(agent, batch).argmax(1))
    target: Any = model.q_net_target
    with torch.no_grad():
        values = target(torch.as_tensor(batch)).numpy()
    np.testing.assert_allclose(values, values_of(agent, batch), rtol=1e-3, atol=1e-5)


def test_sb3_contrib_loads_the_zip_of_a_qr_dqn_agent_and_acts_the_same() -> None:
    contrib = pytest.importorskip("sb3_contrib", reason="needs sndqn[contrib]")
    agent = agent_of(
        NetworkSpec("mlp", head="quantile", head_kwargs={"n_quantiles": 7}), "Acrobot", "qr-dqn"
    )
    model = contrib.QRDQN.load(io.BytesIO(to_sb3(agent)), device="cpu")
    batch = observations(agent, 50)
    actions, _ = model.predict(batch, deterministic=True)
    np.testing.assert_array_equal(actions, values_of(agent, batch).argmax(1))


def test_the_zip_needs_no_sndqn_to_load() -> None:
    content = to_sb3(agent_of(NetworkSpec("mlp")))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert all(b"sndqn" not in archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize(
    ("spec", "env", "algo", "message"),
    [
        (NetworkSpec("mlp", head="categorical"), "CartPole", "c51", "no algorithm c51"),
        (NetworkSpec("mlp", dueling=True), "CartPole", "dqn", "no dueling streams"),
        (NetworkSpec("mlp", normalization="layer"), "CartPole", "dqn", "no layer normalisation"),
        (NetworkSpec("minatar_cnn"), "MinAtar/Breakout", "dqn", "no torso minatar_cnn"),
        (NetworkSpec("mlp", {"features_dim": 8}, activation="elu"), "CartPole", "dqn", "two act"),
        (NetworkSpec("nature_cnn", {"features_dim": 0}), "Breakout", "dqn", "dense layer"),
    ],
)
def test_what_stable_baselines3_does_not_have_is_refused(
    spec: NetworkSpec, env: str, algo: str, message: str
) -> None:
    with pytest.raises(AgentFileError, match=message) as refusal:
        to_sb3(agent_of(spec, env, algo))
    assert "Type --format" in str(refusal.value)


@pytest.mark.parametrize(
    ("spec", "env", "algo"),
    [
        (NetworkSpec("mlp"), "CartPole", "dqn"),
        (NetworkSpec("mlp", head="implicit_quantile", dueling=True), "CartPole", "iqn"),
        (NATURE, "Breakout", "dqn"),
    ],
)
def test_an_onnx_model_gives_the_same_values_for_batches_of_any_size(
    spec: NetworkSpec, env: str, algo: str
) -> None:
    agent = agent_of(spec, env, algo)
    session = onnxruntime.InferenceSession(to_onnx(agent))
    for count in (1, 3, 24):
        batch = observations(agent, count)
        values = session.run(["q_values"], {"observation": batch})[0]
        np.testing.assert_allclose(values, values_of(agent, batch), rtol=1e-3, atol=1e-5)
