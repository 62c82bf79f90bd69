"""Agent files: they load to the same agent, and refuse whatever is not one."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from sndqn.envs import make_env, resolve_env
from sndqn.errors import AgentFileError
from sndqn.networks import NetworkSpec, SpectralSettings
from sndqn.zoo import AgentDescription, load_agent, save_agent

SPEC = NetworkSpec("mlp", net_arch=(16, 16), spectral=SpectralSettings("-2,-1", bound=0.5))


@pytest.fixture
def agent_file(tmp_path: Path) -> Path:
    settings = resolve_env("CartPole")
    env = make_env(settings)
    torch.manual_seed(0)
    network = SPEC.build(env.observation_space, env.action_space)
    path = tmp_path / "agent.safetensors"
    description = AgentDescription(settings, SPEC, "dqn", 123, 4, 0.01)
    save_agent(path, network.state_dict(), description)
    return path


def test_a_file_loads_to_the_same_agent(agent_file: Path) -> None:
    agent = load_agent(agent_file)
    assert agent.description.network == SPEC
    assert agent.description.timesteps == 123
    assert not agent.network.training
    torch.manual_seed(0)
    env = make_env("CartPole")
    twin = SPEC.build(env.observation_space, env.action_space).eval()
    observation = np.ones(4, dtype=np.float32)
    expected = twin(torch.ones(1, 4))[0].detach().numpy()
    np.testing.assert_array_equal(agent.q_values(observation), expected)


def test_acting_changes_nothing(agent_file: Path) -> None:
    agent = load_agent(agent_file)
    before = {name: value.clone() for name, value in agent.network.state_dict().items()}
    agent.q_values(np.ones(4, dtype=np.float32))
    assert all(torch.equal(value, before[n]) for n, value in agent.network.state_dict().items())


def rewrite(path: Path, **changes: object) -> None:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    data = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["sndqn"])
    tensors = load(content)
    for key, value in changes.items():
        if key in tensors:
            tensors[key] = value  # type: ignore[assignment]
        else:
            data[key] = value
    path.write_bytes(save(tensors, {"sndqn": json.dumps(data)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "sndqn-agent-9"}, "expected schema"),
        ({"extra": 1}, "expected an sndqn agent file"),
        ({"settings": {"suite": "control", "env_id": "os:system"}}, "agent.safetensors"),
        ({"network": {"torso": "os.system", "spectral": {}}}, "torso: expected one of"),
        ({"network": {"torso": "mlp", "spectral": {"layers": "-99"}}}, "no layer"),
        ({"network": {"torso": "mlp", "spectral": {}, "net_arch": [8, 8]}}, "expected"),
        ({"q_net.0.bias": torch.full((16,), torch.nan)}, "not finite"),
        ({"q_net.0.bias": torch.zeros(17)}, "expected \\(16,\\)"),
        ({"q_net.0.bias": torch.zeros(16, dtype=torch.float64)}, "torch.float64"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    agent_file: Path, changes: dict[str, object], message: str
) -> None:
    rewrite(agent_file, **changes)
    with pytest.raises(AgentFileError, match=message):
        load_agent(agent_file)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    for content in (None, b"", b"x" * 100, b"\xff" * 100, b"\x80\x04K\x01."):
        path = tmp_path / "agent"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(AgentFileError):
            load_agent(path)


def test_damaged_headers_never_raise_anything_else(agent_file: Path) -> None:
    good = agent_file.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    draw = random.Random(0)
    for _ in range(300):
        content = bytearray(good)
        content[draw.randrange(header)] ^= 1 << draw.randrange(8)
        agent_file.write_bytes(content[: draw.choice([len(content), draw.randrange(len(content))])])
        try:
            load_agent(agent_file)
        except AgentFileError as error:
            message = str(error)
            assert len(message.splitlines()) <= 3
