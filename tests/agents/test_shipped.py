"""Every agent that ships: whole, small, and as good as it says, step by step."""

import json
from pathlib import Path

import numpy as np
import pytest

from sndqn.agents import Agent, load_agent, read_evaluation
from sndqn.agents.evaluations import read_traces
from sndqn.agents.shipped import shipped_agent, shipped_agents
from sndqn.evaluation import EvaluationRecord, Trace, replay_trace
from sndqn.files.shipped import shipped_dir
from sndqn.runs.folder import RunFolder
from sndqn.training.shipping import CLIP, MAX_AGENT_BYTES, MAX_CLIP_BYTES, index_of


def evaluation_of(name: str) -> tuple[Agent, EvaluationRecord, list[Trace]]:
    folder = RunFolder(shipped_agent(name))
    record = read_evaluation(folder)
    assert record is not None
    return load_agent(folder.agent), record, read_traces(folder, record)


def test_the_index_is_what_the_folders_hold() -> None:
    folder = shipped_dir("agents")
    assert json.loads((folder / "index.json").read_text()) == index_of(folder)


@pytest.mark.parametrize("name", list(shipped_agents()))
def test_a_shipped_agent_is_small_and_its_card_is_of_it(name: str) -> None:
    agent, record, _ = evaluation_of(name)
    folder = Path(shipped_dir("agents") / name)
    assert (folder / "agent.safetensors").stat().st_size < MAX_AGENT_BYTES
    card = (folder / "README.md").read_text()
    assert agent.sha256 in card
    assert f"{record.mean:.1f} ± {record.std:.1f}" in card
    clip = folder / CLIP
    assert clip.is_file() == (f"({CLIP})" in card)
    assert not clip.is_file() or clip.stat().st_size < MAX_CLIP_BYTES


@pytest.mark.parametrize("name", list(shipped_agents()))
def test_a_shipped_agent_played_the_games_of_its_score_and_they_replay_exactly(name: str) -> None:
    agent, record, traces = evaluation_of(name)
    assert record.agent_sha256 == agent.sha256
    agreed, steps = 0, 0
    for number, trace in enumerate(traces):
        assert trace.agent_sha256 == agent.sha256
        observation = None
        for replayed in replay_trace(trace):
            action = replayed.step.action
            if number == 0 and action is not None:
                agreed += int(np.argmax(agent.q_values(observation))) == action
                steps += 1
            observation = replayed.step.observation
    # The rest are random actions, and ties that another processor rounds otherwise.
    assert agreed >= (0.98 - record.protocol.epsilon) * steps
