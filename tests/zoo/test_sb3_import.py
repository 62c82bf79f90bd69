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
from stable_baselines3 import DQN

from sndqn.envs import AtariSettings, ControlSettings, EnvSettings, make_env
from sndqn.errors import AgentFileError
from sndqn.zoo import agent_from_bytes
from sndqn.zoo.sb3_import import MAX_BYTES, import_sb3

CARTPOLE = ControlSettings()


def saved(path: Path, settings: EnvSettings = CARTPOLE, policy: str = "MlpPolicy") -> Any:
    model = DQN(policy, make_env(settings), buffer_size=1, device="cpu", seed=0)
    model.save(path)
    return model


@pytest.mark.parametrize(
    ("settings", "policy"), [(CARTPOLE, "MlpPolicy"), (AtariSettings(), "CnnPolicy")]
)
def test_an_imported_agent_has_the_values_of_the_model(
    settings: EnvSettings, policy: str, tmp_path: Path
) -> None:
    model = saved(tmp_path / "model.zip", settings, policy)
    agent = agent_from_bytes(import_sb3(tmp_path / "model.zip", settings, "relu"), "file")
    assert agent.description.settings == settings
    assert agent.description.timesteps == 0
    observation = model.observation_space.sample()
    with torch.no_grad():
        expected = model.q_net(torch.as_tensor(observation)[None])[0].numpy()
    np.testing.assert_allclose(agent.q_values(observation), expected, rtol=1e-4, atol=1e-6)


def rebuilt(path: Path, change: Callable[[bytes], bytes | None], **more: bytes) -> None:
    """Writes the zip again with another policy.pth, and with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    policy = change(members.pop("policy.pth"))
    with zipfile.ZipFile(path, "w") as archive:
        kept = {} if policy is None else {"policy.pth": policy}
        for name, content in {**members, **kept, **more}.items():
            archive.writestr(name, content)


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
            import_sb3(path, CARTPOLE, "relu")
        assert not marker.exists()
    saved(path)
    rebuilt(path, lambda good: good, **{"pytorch_variables.pth": evil, "data": evil})
    import_sb3(path, CARTPOLE, "relu")
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
        import_sb3(tmp_path / "model.zip", CARTPOLE, "relu")
    assert len(str(refusal.value).splitlines()) == 1


def test_two_policies_in_one_zip_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.pth", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("policy.pth", b"2")
    with pytest.raises(AgentFileError, match=r"one policy\.pth in the zip, found 2"):
        import_sb3(path, CARTPOLE, "relu")


def test_a_zip_that_swells_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", bytes(MAX_BYTES + 1))
    assert path.stat().st_size < 10**6
    with pytest.raises(AgentFileError, match="found more"):
        import_sb3(path, CARTPOLE, "relu")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    for content in (None, b"", b"PK\x03\x04" + b"x" * 50, b"x" * 500):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(AgentFileError, match="expected a zip that SB3's DQN saved"):
            import_sb3(path, CARTPOLE, "relu")
