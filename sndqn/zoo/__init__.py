"""Agents as files: weights as safetensors, and with them what they are, as checked JSON.

No pickle is read or written, and nothing in a file names code: the network is rebuilt from values,
and the tensors must be those that network has.
"""

from sndqn.zoo.agents import (
    Agent,
    agent_from_bytes,
    load_agent,
    q_function,
    read_agent_bytes,
    save_agent,
)
from sndqn.zoo.description import SCHEMA, AgentDescription
from sndqn.zoo.evaluations import read_evaluation
from sndqn.zoo.find import AgentPlace, find_agent

__all__ = [
    "SCHEMA",
    "Agent",
    "AgentDescription",
    "AgentPlace",
    "agent_from_bytes",
    "find_agent",
    "load_agent",
    "q_function",
    "read_agent_bytes",
    "read_evaluation",
    "save_agent",
]
