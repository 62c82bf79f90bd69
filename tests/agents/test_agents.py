"""Agent files: they load to the same agent, and refuse whatever is not one."""

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agent_files import SPEC, agent_bytes, compact, description, new_network, rewritten, words_of
from hypothesis import given
from hypothesis import strategies as st

from sndqn.agents import AgentDescription, agent_from_bytes, load_agent, save_agent
from sndqn.agents.container import MAX_BYTES, pack
from sndqn.errors import AgentFileError
from sndqn.evaluation.values import NetworkValues
from sndqn.networks import NetworkSpec, SpectralSettings
from sndqn.networks.heads import HeadName

GOLDEN = Path(__file__).parent.parent / "golden" / "agent-1.safetensors"
GOLDEN_VALUES = [0.04590107128024101, 0.2607412040233612]
HEADS: dict[str, HeadName] = {
    "dqn": "linear",
    "c51": "categorical",
    "qr-dqn": "quantile",
    "iqn": "implicit_quantile",
}


def assert_loads_to_the_same(spec: NetworkSpec, env: str, algo: str = "dqn") -> None:
    network = new_network(spec, env)
    agent = agent_from_bytes(pack(network.state_dict(), description(spec, env, algo)), "file")
    assert agent.description == description(spec, env, algo)
    assert not agent.network.training
    observation = network.observation_space.sample()
    expected = NetworkValues(network)(observation)
    np.testing.assert_array_equal(agent.q_values(observation), expected)


@pytest.mark.parametrize(
    ("algo", "dueling", "noisy"), [*itertools.product(HEADS, (False, True), (False, True))]
)
def test_agents_of_every_head_load_to_the_same(algo: str, dueling: bool, noisy: bool) -> None:
    layers = "none" if noisy else "-2,-1"
    spec = NetworkSpec(
        "mlp",
        head=HEADS[algo],
        dueling=dueling,
        noisy=noisy,
        net_arch=(8,),
        spectral=SpectralSettings(layers),
    )
    assert_loads_to_the_same(spec, "CartPole", algo)


@pytest.mark.parametrize(
    ("spec", "env"),
    [
        (NetworkSpec("nature_cnn", spectral=SpectralSettings("all")), "Breakout"),
        (NetworkSpec("der_cnn", spectral=SpectralSettings("convs")), "Breakout"),
        (NetworkSpec("der_cnn", normalization="batch"), "Breakout"),
        (NetworkSpec("mlp", normalization="layer", net_arch=(8,), dueling=True), "MountainCar"),
        (NetworkSpec("mlp", spectral=SpectralSettings("all", mode="init")), "MountainCar"),
        (NetworkSpec("impala_cnn", {"pool": 6}, normalization="layer"), "Breakout"),
        (NetworkSpec("impala_cnn", spectral=SpectralSettings("-2")), "Breakout"),
        (NetworkSpec("impala_cnn", {"features_dim": 8, "pool": 6, "width": 1}), "Breakout"),
        (NetworkSpec("minatar_cnn", spectral=SpectralSettings("all")), "MinAtar/Breakout"),
        (NetworkSpec("minatar_cnn", {"channels": [4, 4]}), "MinAtar/Breakout"),
        (NetworkSpec("mlp", {"features_dim": 8}, activation="tanh"), "MountainCar"),
    ],
)
def test_agents_of_every_torso_load_to_the_same(spec: NetworkSpec, env: str) -> None:
    assert_loads_to_the_same(spec, env)


@pytest.mark.parametrize(
    "spectral",
    [
        SpectralSettings("all", mode="track"),
        SpectralSettings("all", mode="track", scheduler="div_out"),
        SpectralSettings("all", mode="track", scheduler="div_out", scheduler_form="layer"),
        SpectralSettings("-2", bound="initial", mode="shrink"),
        SpectralSettings("none"),
    ],
)
def test_agents_of_every_kind_of_normalisation_load_to_the_same(spectral: SpectralSettings) -> None:
    assert_loads_to_the_same(NetworkSpec("mlp", spectral=spectral), "CartPole")


def test_a_large_agent_loads_in_two_seconds() -> None:
    content = agent_bytes(NetworkSpec("nature_cnn", spectral=SpectralSettings("all")), "Breakout")
    start = time.process_time()
    agent_from_bytes(content, "file")
    assert time.process_time() - start < 2


def test_loading_draws_nothing_from_the_random_state() -> None:
    content = agent_bytes()
    state = torch.get_rng_state()
    agent_from_bytes(content, "file")
    assert torch.equal(state, torch.get_rng_state())


def test_acting_changes_nothing() -> None:
    agent = agent_from_bytes(agent_bytes(), "file")
    before = {name: value.clone() for name, value in agent.network.state_dict().items()}
    agent.q_values(np.ones(4, dtype=np.float32))
    assert all(torch.equal(value, before[n]) for n, value in agent.network.state_dict().items())


def test_a_file_of_the_first_schema_still_loads_to_what_it_was() -> None:
    agent = load_agent(GOLDEN)
    # It says nothing of an arrangement: observations stay as the environment gives them.
    given = replace(description().settings, arranged=False)
    assert agent.description == AgentDescription(
        given, SPEC, "dqn", timesteps=123, seed=4, eval_epsilon=0.01
    )
    np.testing.assert_allclose(
        agent.q_values(np.array([0.1, -0.2, 0.3, -0.4], dtype=np.float32)), GOLDEN_VALUES, rtol=1e-6
    )
    assert pack(agent.network.state_dict(), agent.description) == GOLDEN.read_bytes()


def test_a_pinned_digest_admits_that_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    sha256 = save_agent(path, new_network().state_dict(), description())
    assert load_agent(path, sha256.upper()).sha256 == sha256
    with pytest.raises(AgentFileError, match="another file"):
        load_agent(path, "0" * 64)
    with pytest.raises(AgentFileError, match="64 hexadecimal digits"):
        load_agent(path, "abc")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "sndqn-agent-9"}, "found 'sndqn-agent-9': read it with the sndqn"),
        ({"extra": 1}, "expected the fields"),
        ({"algo": "c51"}, "head: expected categorical for c51, found linear"),
        ({"timesteps": True}, "timesteps: expected a whole number"),
        ({"timesteps": -1}, "timesteps: expected a whole number"),
        ({"eval_epsilon": 2}, "eval_epsilon: expected a number from 0 to 1"),
        ({"settings": {"env_id": "os:system"}}, "env_id"),
        ({"settings": {"env_id": "Nothing-v0"}}, "Nothing-v0 is not registered"),
        ({"settings": {"env_id": "Acrobot-v1"}}, "q_net.0.weight"),
        ({"settings": {"env_kwargs": {"nonsense": 1}}}, "env_kwargs"),
        ({"settings": []}, "settings: expected"),
        ({"network": {"torso": "os.system"}}, "torso: expected one of"),
        ({"network": {"torso": "nature_cnn"}}, "expected observations of"),
        ({"network": {"torso_kwargs": {"hidden": [1]}}}, "torso_kwargs: expected the fields"),
        ({"network": {"net_arch": [8, 8]}}, r"expected \(8, 4\), found \(16, 4\)"),
        ({"network": {"net_arch": [2**20, 2**20]}}, "bytes of weights"),
        ({"network": {"net_arch": [0]}}, "net_arch: expected"),
        ({"network": {"activation": "Sigmoid"}}, "activation: expected one of"),
        ({"network": {"spectral": {}}}, "spectral: expected the field"),
        ({"network": {"dueling": 1}}, "dueling: expected true or false"),
    ],
)
def test_a_description_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AgentFileError, match=message) as refusal:
        agent_from_bytes(rewritten(agent_bytes(), **changes), "file")
    assert len(str(refusal.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("spectral", "message"),
    [
        ({"layers": "-99"}, "no layer"),
        ({"layers": "-2"}, "not part of its network"),
        ({"layers": "all"}, "is missing"),
        ({"layers": "\x1b[2J"}, "printable"),
        ({"bound": 0.4}, "expected the bound 0.4, found 0.5"),
        ({"bound": -1.0}, "bound: expected"),
        ({"mode": "eval"}, "mode: expected one of"),
        ({"scheduler": "div_out"}, "sn_scheduler"),
    ],
)
def test_a_claim_of_normalisation_that_does_not_hold_is_refused(
    spectral: dict[str, Any], message: str
) -> None:
    content = agent_bytes()
    whole = {**words_of(content)["network"]["spectral"], **spectral}
    with pytest.raises(AgentFileError, match=message):
        agent_from_bytes(rewritten(content, network={"spectral": whole}), "file")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"q_net.0.bias": torch.full((16,), torch.nan)}, "q_net.0.bias is not finite"),
        ({"q_net.2.running_u": torch.full((8, 16), torch.inf)}, "running_u is not finite"),
        ({"q_net.0.bias": torch.zeros(17)}, r"expected \(16,\), found \(17,\)"),
        ({"q_net.0.bias": torch.zeros(16, dtype=torch.float64)}, "dtype: expected one of F32"),
        ({"q_net.0.bias": None}, "'q_net.0.bias' is missing"),
        ({"q_net.2.running_sigma": None}, "running_sigma' is missing"),
        ({"optimizer": torch.zeros(3)}, "'optimizer' is not part of its network"),
        ({"q_net.2.running_sigma": torch.tensor(0.01)}, "expected the σ of its weight"),
        ({"q_net.2.running_sigma": torch.tensor(100.0)}, "expected the σ of its weight"),
        ({"q_net.2.running_sigma": torch.tensor(-1.0)}, "expected the σ of its weight"),
        ({"q_net.2.bound": torch.tensor(5.0)}, "expected the bound 0.5, found 5"),
    ],
)
def test_tensors_that_are_not_those_of_the_network_are_refused(
    tensors: dict[str, Any], message: str
) -> None:
    with pytest.raises(AgentFileError, match=message):
        agent_from_bytes(rewritten(agent_bytes(), tensors), "file")


def test_a_convolution_that_acts_with_another_norm_than_it_claims_is_refused() -> None:
    spec = NetworkSpec("minatar_cnn", spectral=SpectralSettings("all"))
    content = agent_bytes(spec, "MinAtar/Breakout")
    network = new_network(spec, "MinAtar/Breakout")
    name = "features_extractor.cnn.0.weight"
    tensors = {name: network.state_dict()[name] * 1.2}
    with pytest.raises(AgentFileError, match=r"cnn\.0: expected the σ of its weight"):
        agent_from_bytes(rewritten(content, tensors), "file")


def test_contradictions_are_found_before_memory_is_asked_for() -> None:
    """A network of 2^40 weights is described by a file of three kilobytes."""
    content = agent_bytes()
    for changes in (
        {"network": {"net_arch": [2**20] * 32}},
        {"network": {"torso_kwargs": {"features_dim": 2**20}, "net_arch": [2**20]}},
        {
            "settings": {"suite": "atari", "game": "breakout", "protocol": "nature"},
            "network": {"torso": "impala_cnn", "torso_kwargs": {"width": 1024}},
        },
    ):
        if "settings" in changes:  # of another suite: nothing of the old ones stays
            data = {**words_of(content), **changes, "content_sha256": "0" * 64}
            data["network"] = {**words_of(content)["network"], **changes["network"]}
            changed = rewritten(content, words=compact(data))
        else:
            changed = rewritten(content, **changes)
        start = time.process_time()
        with pytest.raises(AgentFileError, match="expected"):
            agent_from_bytes(changed, "file")
        assert time.process_time() - start < 2


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    for content in (None, b"", b"x" * 100, b"\xff" * 100, b"\x80\x04K\x01."):
        path = tmp_path / "agent"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(AgentFileError):
            load_agent(path)
    with pytest.raises(AgentFileError, match="expected a file"):
        load_agent(tmp_path)


def test_a_file_larger_than_any_agent_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    with path.open("wb") as file:
        file.truncate(2 * MAX_BYTES)  # of holes: no disk is used
    with pytest.raises(AgentFileError, match="expected at most"):
        load_agent(path)


@given(st.text(max_size=80))
def test_messages_about_a_file_steer_no_terminal(words: str) -> None:
    with pytest.raises(AgentFileError) as refusal:
        agent_from_bytes(rewritten(agent_bytes(), algo=words), "file")
    message = str(refusal.value)
    assert len(message.splitlines()) <= 2
    assert all(line.isprintable() for line in message.split("\n"))


def test_a_title_is_kept_and_a_file_without_one_is_as_good() -> None:
    network = new_network(SPEC)
    plain = description(SPEC)
    titled = replace(plain, title="rainbow")
    for about, name in ((plain, "dqn"), (titled, "rainbow (dqn)")):
        agent = agent_from_bytes(pack(network.state_dict(), about), "file")
        assert agent.description == about
        assert agent.description.name == name
    assert "title" not in plain.to_dict()


@pytest.mark.parametrize("title", ["", "a b", "x" * 41, 3, None, "\x1b[2J", "up/../"])
def test_a_title_that_is_no_word_is_refused(title: Any) -> None:
    data = {**description(SPEC).to_dict(), "title": title}
    with pytest.raises(AgentFileError, match="title: expected a word"):
        AgentDescription.from_dict(data)


def test_a_file_whose_layers_follow_another_number_of_vectors_acts_by_its_own_sigma() -> None:
    spec = NetworkSpec("minatar_cnn", spectral=SpectralSettings("all"))
    network = new_network(spec, "MinAtar/Breakout")
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith((".running_u", ".running_v")):
            state[name] = value[:2].clone()
        if name.endswith(".running_sigma"):
            state[name] = value * 0.97  # as a lagging power iteration leaves it
    agent = agent_from_bytes(pack(state, description(spec, "MinAtar/Breakout")), "file")
    for name, value in agent.network.state_dict().items():
        if not name.endswith((".running_u", ".running_v")):
            assert torch.equal(value, state[name]), name
