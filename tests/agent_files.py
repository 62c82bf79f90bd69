"""Agent files for tests: good ones, and what someone else can make of them."""

import hashlib
import json
from typing import Any

import torch
from safetensors.torch import load, save

from sndqn.agents import AgentDescription
from sndqn.agents.container import pack
from sndqn.envs import make_env, resolve_env
from sndqn.networks import NetworkSpec, SpectralSettings, make_q_network

SPEC = NetworkSpec("mlp", net_arch=(16, 16), spectral=SpectralSettings("-2,-1", bound=0.5))


def description(spec: NetworkSpec = SPEC, env: str = "CartPole", algo: str = "dqn") -> Any:
    return AgentDescription(resolve_env(env), spec, algo, 123, 4, 0.01)


def new_network(spec: NetworkSpec = SPEC, env: str = "CartPole") -> Any:
    made = make_env(env)
    torch.manual_seed(0)
    network = make_q_network(made.observation_space, made.action_space, spec)
    made.close()
    return network.eval()


def agent_bytes(spec: NetworkSpec = SPEC, env: str = "CartPole", algo: str = "dqn") -> bytes:
    return pack(new_network(spec, env).state_dict(), description(spec, env, algo))


def words_of(content: bytes) -> dict[str, Any]:
    """The description in a file, as data."""
    size = int.from_bytes(content[:8], "little")
    data: dict[str, Any] = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["sndqn"])
    return data


def rewritten(
    content: bytes,
    tensors: dict[str, Any] | None = None,
    words: str | None = None,
    **changes: Any,
) -> bytes:
    """The file as someone makes it who knows the format: changed, and its digest made anew.

    Args:
        content: Of a good file.
        tensors: Tensors to change or add by name; None as a value leaves one out.
        words: The description as it is to stand there, in place of the file's own.
        **changes: Of the description; a dict changes the parts of a part.
    """
    data = words_of(content)
    for name, value in changes.items():
        old = data.get(name)
        data[name] = {**old, **value} if isinstance(old, dict) and value else value
    data["content_sha256"] = "0" * 64
    kept = {n: t for n, t in {**load(content), **(tensors or {})}.items() if t is not None}
    return with_digest(save(kept, {"sndqn": words if words is not None else compact(data)}))


def with_digest(content: bytes) -> bytes:
    """The file with the SHA-256 of itself in the place of 64 zeros."""
    digest = hashlib.sha256(content).hexdigest()
    return content.replace(b"0" * 64, digest.encode(), 1)


def compact(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
