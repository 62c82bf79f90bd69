"""The agents that ship with sndqn: agents/ENV/NAME/, and an index with the SHA-256 of every file.

README.md              the card, for people
config.yaml            every setting of its training
evaluation.json        its score
episodes.jsonl         the episodes that prove it
agent.safetensors      the agent
seeds.json             what all seeds of its study scored, if it is of one
replay.mp4             the beginning of its best game, with its Q-values
"""

import json
from pathlib import Path
from typing import Any

from sndqn.errors import AgentFileError
from sndqn.files import sha256_of
from sndqn.files.shipped import shipped_dir

INDEX = "index.json"


def shipped_agents() -> dict[str, dict[str, Any]]:
    """Lists the shipped agents by name, "CartPole/sn", with what the index says of each."""
    path = shipped_dir("agents") / INDEX
    index: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"agents": {}}
    agents: dict[str, dict[str, Any]] = index["agents"]
    return agents


def is_shipped(name: str) -> bool:
    """Returns whether an agent of that name ships with sndqn."""
    return name in shipped_agents()


def shipped_agent(name: str) -> Path:
    """Returns the folder of a shipped agent whose files are those of the index.

    Raises:
        AgentFileError: One of them is missing, or was changed.
    """
    folder = shipped_dir("agents") / name
    for file, sha256 in shipped_agents()[name]["files"].items():
        path = folder / file
        if not path.is_file() or sha256_of(path.read_bytes()) != sha256:
            raise AgentFileError(
                f"{path}: expected the file with SHA-256 {sha256}, as {INDEX} says, found "
                f"{'another' if path.is_file() else 'none'}: install sndqn again"
            )
    return folder
