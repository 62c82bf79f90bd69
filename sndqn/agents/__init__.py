"""Agents as files: weights as safetensors, and with them what they are, as checked JSON.

No pickle is read or written, and no code that a file names is run: the network is rebuilt from
values, and the tensors must be those that network has. The names load on first use: the list of the
shipped agents, which is JSON, needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sndqn.agents.agents import (
        Agent,
        agent_from_bytes,
        check_description,
        load_agent,
        read_agent_bytes,
        save_agent,
    )
    from sndqn.agents.description import SCHEMA, AgentDescription
    from sndqn.agents.evaluations import read_evaluation
    from sndqn.agents.find import AgentPlace, find_agent

_HOMES = {
    "SCHEMA": "description",
    "Agent": "agents",
    "AgentDescription": "description",
    "AgentPlace": "find",
    "agent_from_bytes": "agents",
    "check_description": "agents",
    "find_agent": "find",
    "load_agent": "agents",
    "read_agent_bytes": "agents",
    "read_evaluation": "evaluations",
    "save_agent": "agents",
}

__all__ = [
    "SCHEMA",
    "Agent",
    "AgentDescription",
    "AgentPlace",
    "agent_from_bytes",
    "check_description",
    "find_agent",
    "load_agent",
    "read_agent_bytes",
    "read_evaluation",
    "save_agent",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sndqn.agents' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sndqn.agents.{_HOMES[name]}"), name)
