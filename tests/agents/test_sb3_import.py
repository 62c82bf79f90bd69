"""Weights out of zips of Stable-Baselines3: they act the same, and nothing else gets out."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

import sndqn
import sndqn.contrib
from sndqn.agents import agent_from_bytes
from sndqn.agents.container import pack
from sndqn.agents.description import HEAD_OF, AgentDescription
from sndqn.agents.inference import network_of
from sndqn.agents.sb3_import import MAX_BYTES, import_sb3
from sndqn.agents.told import Told
from sndqn.envs import AtariSettings, ControlSettings, EnvSettings, MinAtarSettings, make_env
from sndqn.errors import AgentFileError
from sndqn.policies import der_cnn, impala_cnn, minatar_cnn, mlp, nature_cnn

CARTPOLE = ControlSettings()


class OwnExtractor(FlattenExtractor):
    """Of somebody else: its shapes are those of another."""


def saved(path: Path, settings: EnvSettings = CARTPOLE, policy: Any = "MlpPolicy") -> Any:
    model = DQN(policy, make_env(settings), buffer_size=1, device="cpu", seed=0)
    model.save(path)
    return model


MINATAR, ATARI = MinAtarSettings(), AtariSettings()
CNN: dict[str, Any] = {"features_extractor_class": nature_cnn}
OWN: list[tuple[str, EnvSettings, str, dict[str, Any], dict[str, Any]]] = [
    ("DQN", CARTPOLE, "SNMlpPolicy", {}, {}),
    ("DQN", CARTPOLE, "SNMlpPolicy", {"net_arch": [9, 8, 7], "sn_layers": "-2,-4"}, {}),
    ("DQN", CARTPOLE, "SNMlpPolicy", {"dueling": True, "net_arch": [16], "sn_bound": 0.3}, {}),
    ("DQN", CARTPOLE, "SNMlpPolicy", {"net_arch": [], "sn_layers": "-1"}, {}),
    ("DQN", CARTPOLE, "SNMlpPolicy", {"sn_layers": "all", "sn_bound": "initial"}, {}),
    ("DQN", CARTPOLE, "SNMlpPolicy", {"sn_layers": "none", "noisy": True}, {}),
    ("DQN", CARTPOLE, "SNMlpPolicy", {"sn_bound": 5.0, "sn_mode": "shrink"}, {"sn_mode": "shrink"}),
    ("DQN", CARTPOLE, "SNMlpPolicy", {"sn_mode": "track"}, {"sn_mode": "track"}),
    (
        "DQN",
        CARTPOLE,
        "SNMlpPolicy",
        {"features_extractor_class": mlp, "features_extractor_kwargs": {"features_dim": 12}},
        {},
    ),
    ("C51", CARTPOLE, "SNMlpPolicy", {}, {"v_min": -10.0, "v_max": 10.0}),
    ("C51", CARTPOLE, "SNMlpPolicy", {"dueling": True}, {"v_min": -10.0, "v_max": 10.0}),
    ("QRDQN", CARTPOLE, "SNMlpPolicy", {}, {}),
    ("QRDQN", CARTPOLE, "SNMlpPolicy", {"dueling": True, "noisy": True, "sn_layers": "none"}, {}),
    ("IQN", CARTPOLE, "SNMlpPolicy", {}, {"n_acting_quantiles": 32}),
    (
        "IQN",
        CARTPOLE,
        "SNMlpPolicy",
        {"dueling": True, "sn_layers": "q_net.embedding"},
        {"n_acting_quantiles": 32},
    ),
    ("DQN", ATARI, "SNCnnPolicy", {"sn_layers": "all"}, {}),
    ("DQN", ATARI, "SNCnnPolicy", {"sn_layers": "-5,-2", "sn_conv_norm": "kernel"}, {}),
    (
        "QRDQN",
        ATARI,
        "SNCnnPolicy",
        {**CNN, "features_extractor_kwargs": {"features_dim": 0}, "net_arch": [24]},
        {},
    ),
    (
        "DQN",
        MINATAR,
        "SNCnnPolicy",
        {
            "features_extractor_class": minatar_cnn,
            "features_extractor_kwargs": {"channels": [8, 6], "features_dim": 32},
            "sn_layers": "convs",
        },
        {},
    ),
    (
        "DQN",
        ATARI,
        "SNCnnPolicy",
        {"features_extractor_class": der_cnn, "features_extractor_kwargs": {"features_dim": 16}},
        {},
    ),
    (
        "IQN",
        ATARI,
        "SNCnnPolicy",
        {"features_extractor_class": der_cnn, "normalization": "batch"},
        {"n_acting_quantiles": 32},
    ),
    ("DQN", CARTPOLE, "SNMlpPolicy", {"normalization": "layer", "dueling": True}, {}),
    (
        "DQN",
        ATARI,
        "SNCnnPolicy",
        {
            "features_extractor_class": impala_cnn,
            "features_extractor_kwargs": {"pool": 6, "features_dim": 16},
            "sn_layers": "residual",
        },
        {},
    ),
]


USUAL: dict[str, Any] = {"activation": "relu", "sn_mode": "normalize"}


@pytest.mark.parametrize(("algo", "settings", "policy", "kwargs", "told"), OWN)
def test_the_weights_of_our_own_policies_tell_which_network_they_are_of(
    algo: str, settings: EnvSettings, policy: str, kwargs: dict[str, Any], told: dict[str, Any]
) -> None:
    made = getattr(sndqn, algo)
    model = made(
        policy, make_env(settings), buffer_size=20, device="cpu", seed=0, policy_kwargs=kwargs
    )
    network = model.q_net.eval()
    # In another order than the network's: files sort them their own way.
    tensors = dict(sorted(network.state_dict().items(), reverse=True))
    spec = network_of(
        tensors, (model.observation_space, model.action_space), Told(**{**USUAL, **told})
    )
    algo_name = next(name for name, head in HEAD_OF.items() if head == spec.head)
    content = pack(tensors, AgentDescription(settings, spec, algo_name, 0, 0, 0.0))
    agent = agent_from_bytes(content, "file")
    original = model.policy.spec.spectral
    assert spec.spectral.mode == original.mode
    if original.bound != "initial" and original.layers != "none":
        assert spec.spectral.bound == original.bound
    model.observation_space.seed(0)
    observation = model.observation_space.sample()
    with torch.no_grad():
        expected = network(torch.as_tensor(observation)[None])[0].numpy()
    np.testing.assert_allclose(agent.q_values(observation), expected, rtol=1e-4, atol=1e-6)


MODELS: dict[str, tuple[Any, EnvSettings, Any, dict[str, Any]]] = {
    "stock-mlp": (DQN, CARTPOLE, "MlpPolicy", {"policy_kwargs": {"activation_fn": nn.Tanh}}),
    "stock-cnn": (DQN, ATARI, "CnnPolicy", {}),
    "stock-sn-mlp": (DQN, CARTPOLE, sndqn.SNMlpPolicy, {"policy_kwargs": {"sn_mode": "shrink"}}),
    "stock-sn-cnn": (DQN, ATARI, sndqn.SNCnnPolicy, {"policy_kwargs": {"sn_layers": "-2,-3"}}),
    "dqn": (sndqn.DQN, CARTPOLE, "SNMlpPolicy", {"policy_kwargs": {"activation_fn": "elu"}}),
    "dqn-div-out": (
        sndqn.DQN,
        CARTPOLE,
        "SNMlpPolicy",
        {"policy_kwargs": {"sn_layers": "all", "sn_mode": "track", "sn_scheduler": "div_out"}},
    ),
    "c51": (sndqn.C51, CARTPOLE, "SNMlpPolicy", {"v_min": 0, "v_max": 90.5}),
    "qr-dqn": (sndqn.QRDQN, CARTPOLE, "SNMlpPolicy", {}),
    "iqn": (sndqn.IQN, CARTPOLE, "SNMlpPolicy", {"n_acting_quantiles": 9}),
    "contrib-mlp": (QRDQN, CARTPOLE, "MlpPolicy", {"policy_kwargs": {"n_quantiles": 11}}),
    "contrib-cnn": (QRDQN, ATARI, "CnnPolicy", {}),
    "contrib-sn-mlp": (
        QRDQN,
        CARTPOLE,
        sndqn.contrib.SNMlpPolicy,
        {"policy_kwargs": {"sn_layers": "all", "n_quantiles": 11, "sn_bound": 0.7}},
    ),
    "contrib-sn-cnn": (QRDQN, ATARI, sndqn.contrib.SNCnnPolicy, {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_zip_alone_acts_as_the_model_that_was_saved(name: str, tmp_path: Path) -> None:
    """Nothing but the environment is told."""
    made, settings, policy, kwargs = MODELS[name]
    env = make_env(settings)
    model = made(policy, env, buffer_size=60, device="cpu", seed=3, learning_starts=20, **kwargs)
    model.learn(40)
    model.save(tmp_path / "model.zip")
    agent = agent_from_bytes(import_sb3(tmp_path / "model.zip", Told(settings)), "file")
    assert (agent.description.timesteps, agent.description.seed) == (40, 3)
    observation = env.reset(seed=5)[0]
    for _ in range(30):
        action = int(model.predict(observation, deterministic=True)[0])
        assert int(np.argmax(agent.q_values(observation))) == action
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation = env.reset()[0]


def test_what_is_typed_counts_before_what_the_zip_says(tmp_path: Path) -> None:
    saved(tmp_path / "model.zip")
    content = import_sb3(tmp_path / "model.zip", Told(CARTPOLE, activation="tanh"))
    assert agent_from_bytes(content, "file").description.network.activation == "tanh"


def test_the_environment_of_a_bare_zip_is_asked_for(tmp_path: Path) -> None:
    saved(tmp_path / "model.zip")
    words = r"of observations \(4,\) and 2 actions: type --env NAME"
    with pytest.raises(AgentFileError, match=words) as refusal:
        import_sb3(tmp_path / "model.zip", Told())
    assert len(str(refusal.value).splitlines()) == 1


def test_another_environment_than_the_zip_says_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "cart.zip")
    with pytest.raises(AgentFileError, match="expected 2 actions, as the zip says, found 3"):
        import_sb3(tmp_path / "cart.zip", Told(ControlSettings(env_id="Acrobot-v1")))
    # Of as many numbers, in another order: the weights alone would fit.
    last = spaces.Box(0, 1, (10, 10, 4), bool)
    env: Any = TransformObservation(make_env(MINATAR), lambda seen: seen.transpose(1, 2, 0), last)
    DQN("MlpPolicy", env, buffer_size=1, device="cpu").save(tmp_path / "flat.zip")
    with pytest.raises(AgentFileError, match=r"\(10, 10, 4\), as the zip says, found \(4, 10"):
        import_sb3(tmp_path / "flat.zip", Told(MINATAR))


def test_images_that_the_two_would_scale_differently_are_refused(tmp_path: Path) -> None:
    space = spaces.Box(0, 255, (4, 40, 40), np.float32)
    env: Any = TransformObservation(make_env(ATARI), lambda seen: seen[:, :40, :40] * 1.0, space)
    DQN("MlpPolicy", env, buffer_size=1, device="cpu").save(tmp_path / "model.zip")
    with pytest.raises(AgentFileError, match="images of floats up to 255"):
        import_sb3(tmp_path / "model.zip", Told(ATARI))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"activation_fn": nn.Sigmoid}, "expected an activation of relu"),
        ({"normalize_images": False}, "found normalize_images=False"),
        ({"features_extractor_class": OwnExtractor}, "found '.*OwnExtractor'"),
    ],
)
def test_a_network_that_sndqn_cannot_make_is_refused(
    policy: dict[str, Any], words: str, tmp_path: Path
) -> None:
    model = DQN("MlpPolicy", make_env(CARTPOLE), policy_kwargs=policy, buffer_size=1, device="cpu")
    model.save(tmp_path / "model.zip")
    with pytest.raises(AgentFileError, match=words):
        import_sb3(tmp_path / "model.zip", Told(CARTPOLE))


def test_a_trained_agent_keeps_the_sigma_it_acted_with(tmp_path: Path) -> None:
    model = sndqn.DQN("SNMlpPolicy", make_env(CARTPOLE), learning_starts=50, device="cpu", seed=0)
    model.learn(300).save(tmp_path / "model.zip")
    agent = agent_from_bytes(import_sb3(tmp_path / "model.zip", Told(CARTPOLE)), "file")
    own, theirs = agent.network.state_dict(), model.q_net.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in own)
    assert agent.description.network.spectral.layers == "-2"


def test_observations_of_several_parts_are_imported(tmp_path: Path) -> None:
    policy = sndqn.make_q_network(spaces.Dict({"a": spaces.Box(-1, 1, (3,))}), spaces.Discrete(2))
    spec = network_of(
        policy.state_dict(), (policy.observation_space, policy.action_space), Told(**USUAL)
    )
    assert (spec.torso, spec.spectral.layers) == ("combined", "-2")


def rebuilt(path: Path, change: Callable[[bytes], bytes | None], **more: bytes) -> None:
    """Writes the zip again with another policy.pth, and with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    policy = change(members.pop("policy.pth"))
    with zipfile.ZipFile(path, "w") as archive:
        kept = {} if policy is None else {"policy.pth": policy}
        for name, content in {**members, **kept, **more}.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("algo", "told", "words"),
    [
        ("DQN", {}, "type --activation relu --sn-mode normalize, if"),
        ("DQN", {"sn_mode": "track"}, "type --activation relu, if"),
        ("C51", USUAL, "type --v-min -10 --v-max 10, if"),
        ("IQN", USUAL, "type --n-acting-quantiles 32, if"),
        ("DQN", {"v_min": 0.0}, "expected C51's network, found another: leave it out"),
        ("QRDQN", {"n_acting_quantiles": 8}, "leave it out"),
    ],
)
def test_what_neither_weights_nor_words_tell_is_asked_for_in_one_line(
    algo: str, told: dict[str, Any], words: str, tmp_path: Path
) -> None:
    made, path = getattr(sndqn, algo), tmp_path / "m.zip"
    made("SNMlpPolicy", make_env(CARTPOLE), buffer_size=20, device="cpu").save(path)
    rebuilt(path, lambda good: good, data=b"no JSON")
    with pytest.raises(AgentFileError, match=words) as refusal:
        import_sb3(path, Told(CARTPOLE, **told))
    assert len(str(refusal.value).splitlines()) == 1


class Payload:
    """A pickle that writes a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_no_pickle_anywhere_in_the_zip_is_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "model.zip"
    evil = pickle.dumps(Payload(marker))
    file = io.BytesIO()
    torch.save({"q_net.q_net.0.weight": Payload(marker)}, file)
    for policy in (evil, file.getvalue()):
        saved(path)
        rebuilt(path, lambda _, policy=policy: policy)  # type: ignore[misc]
        with pytest.raises(AgentFileError, match="expected weights alone"):
            import_sb3(path, Told(CARTPOLE))
        assert not marker.exists()
    saved(path)
    rebuilt(path, lambda good: good, **{"pytorch_variables.pth": evil, "data": evil})
    import_sb3(path, Told(CARTPOLE, activation="relu"))
    assert not marker.exists()
    pickle.loads(evil)  # noqa: S301 (the payload works where it is let)
    assert marker.exists()


def with_state(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def rewrite(content: bytes) -> bytes:
        state = torch.load(io.BytesIO(content), weights_only=True)
        file = io.BytesIO()
        torch.save(change(dict(state)), file)
        return file.getvalue()

    return rewrite


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: None, "expected one policy.pth"),
        (lambda _: b"", "expected weights alone"),
        (lambda good: good[:-200], "expected weights alone"),
        (with_state(list), "something else than tensors"),
        (with_state(lambda state: {}), "no Q-network"),
        (with_state(lambda s: {n: t.double() for n, t in s.items()}), "no Q-network of 32-bit"),
        (with_state(lambda s: {**s, "q_net.q_net.2.bound": torch.ones(1)}), "running_u"),
        (with_state(lambda s: {**s, "q_net.q_net.9.bound": torch.ones(())}), "of SB3's"),
        (with_state(lambda s: {**s, "q_net.q_net.7.weight": torch.ones(2, 2)}), "of SB3's"),
        (with_state(lambda s: {**s, "quantile_net.a": torch.ones(1)}), "of SB3's"),
        (with_state(lambda s: {**s, "q_net.more": torch.ones(1)}), "expected the network of SB3's"),
        (with_state(lambda s: {**s, "q_net.0": torch.ones(1).expand(2**36)}), "memory"),
        (with_state(lambda s: {n: t for n, t in s.items() if "0.bias" not in n}), "of SB3's"),
    ],
)
def test_another_policy_is_refused(
    change: Callable[[bytes], bytes | None], message: str, tmp_path: Path
) -> None:
    saved(tmp_path / "model.zip")
    rebuilt(tmp_path / "model.zip", change)
    with pytest.raises(AgentFileError, match=message) as refusal:
        agent_from_bytes(import_sb3(tmp_path / "model.zip", Told(CARTPOLE)), "file")
    assert len(str(refusal.value).splitlines()) == 1


def test_two_policies_in_one_zip_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.pth", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("policy.pth", b"2")
    with pytest.raises(AgentFileError, match=r"one policy\.pth in the zip, found 2"):
        import_sb3(path, Told(CARTPOLE))


def test_a_zip_that_swells_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", bytes(MAX_BYTES + 1))
    assert path.stat().st_size < 10**6
    with pytest.raises(AgentFileError, match="found more"):
        import_sb3(path, Told(CARTPOLE))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    for content in (None, b"", b"PK\x03\x04" + b"x" * 50, b"x" * 500):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(AgentFileError, match="expected a zip that Stable-Baselines3"):
            import_sb3(path, Told(CARTPOLE))
