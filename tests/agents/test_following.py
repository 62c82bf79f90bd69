"""An agent's file that something goes on writing."""

from dataclasses import replace
from pathlib import Path

import agent_files
import numpy as np
import pytest
import torch

from sndqn.agents import find_agent, save_agent
from sndqn.agents.following import NewestAgent
from sndqn.errors import AgentFileError


def write(path: Path, timesteps: int, bias: float, env: str = "CartPole") -> None:
    about = replace(agent_files.description(env=env), timesteps=timesteps)
    state = agent_files.new_network(env=env).state_dict()
    state["q_net.4.bias"] += bias
    save_agent(path, state, about)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.safetensors"
    write(path, 100, 0.0)
    return path


def test_the_newest_agent_is_read_when_the_file_is_another_one(file: Path) -> None:
    newest = NewestAgent(find_agent(str(file)))
    before = newest.newest()
    assert newest.newest() is before
    assert not newest.is_newer
    write(file, 200, 1.0)
    assert newest.is_newer
    after = newest.newest()
    assert not newest.is_newer
    assert after.description.timesteps == 200
    where = np.zeros(4, np.float32)
    assert not np.array_equal(after.q_values(where), before.q_values(where))


@pytest.mark.parametrize("damage", ["cut", "not finite", "another environment"])
def test_what_cannot_be_taken_changes_nothing_and_is_told(file: Path, damage: str) -> None:
    newest = NewestAgent(find_agent(str(file)))
    before = newest.newest()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "not finite":
        write(file, 200, torch.nan)
    else:
        write(file, 200, 0.0, env="Acrobot")
    assert newest.newest() is before
    assert newest.problem
    assert not newest.is_newer
    write(file, 300, 0.0)
    assert newest.newest().description.timesteps == 300
    assert newest.problem == ""


def test_a_file_that_is_gone_changes_nothing(file: Path) -> None:
    newest = NewestAgent(find_agent(str(file)))
    file.unlink()
    assert not newest.is_newer
    assert newest.newest().description.timesteps == 100


def test_a_pinned_agent_stays_the_one_of_its_digest(file: Path) -> None:
    with pytest.raises(AgentFileError, match="expected SHA-256"):
        NewestAgent(find_agent(str(file)), "0" * 64)
    sha256 = NewestAgent(find_agent(str(file))).agent.sha256
    newest = NewestAgent(find_agent(str(file)), sha256)
    write(file, 200, 0.0)
    assert newest.newest().sha256 == sha256
    assert "another file" in newest.problem
