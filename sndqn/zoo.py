"""Agents as files: weights as safetensors, and with them what they are, as checked JSON.

No pickle is read or written, and nothing in the file names code: the network is rebuilt from
values, and the tensors must be those that network has.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from sndqn.envs import EnvSettings, make_env, settings_from_dict
from sndqn.errors import AgentFileError, SndqnError
from sndqn.networks import NetworkSpec, QNetwork, SpectralSettings
from sndqn.runs.folder import write_bytes

SCHEMA = "sndqn-agent-1"
MAX_BYTES = 512 * 1024 * 1024
MAX_HEADER_BYTES = 1024 * 1024

_MALFORMED = (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True)
class AgentDescription:
    """What an agent is, besides its weights.

    Attributes:
        settings: The environment it learnt.
        network: Its network.
        algo: The algorithm that made it.
        timesteps: Steps it learnt from.
        seed: Seed of its training.
        eval_epsilon: ε it is evaluated with.
    """

    settings: EnvSettings
    network: NetworkSpec
    algo: str
    timesteps: int
    seed: int
    eval_epsilon: float

    def to_dict(self) -> dict[str, Any]:
        """Gives the description as JSON data."""
        return {
            "schema": SCHEMA,
            "settings": self.settings.to_dict(),
            "network": asdict(self.network),
            "algo": self.algo,
            "timesteps": self.timesteps,
            "seed": self.seed,
            "eval_epsilon": self.eval_epsilon,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "AgentDescription":
        """Reads a description, refusing keys it does not know."""
        if data.get("schema") != SCHEMA:
            raise AgentFileError(f"expected schema {SCHEMA!r}, found {data.get('schema')!r}")
        rest = {key: value for key, value in data.items() if key != "schema"}
        network = dict(rest.pop("network"))
        spectral = SpectralSettings(**network.pop("spectral"))
        if network.get("net_arch") is not None:
            network["net_arch"] = tuple(network["net_arch"])
        settings = settings_from_dict(rest.pop("settings"))
        return cls(settings=settings, network=NetworkSpec(**network, spectral=spectral), **rest)


@dataclass(frozen=True)
class Agent:
    """A loaded agent, ready to act.

    Attributes:
        network: Its Q-network, in evaluation mode.
        description: What it is.
        sha256: Of its file.
    """

    network: QNetwork
    description: AgentDescription
    sha256: str

    def q_values(self, observation: Any) -> Any:
        """Gives the Q-values of one observation as an array, shape (actions,)."""
        return q_function(self.network)(observation)


def q_function(network: torch.nn.Module) -> Any:
    """Makes the function of one observation that evaluation plays with."""

    @torch.no_grad()
    def q_values(observation: Any) -> Any:
        if isinstance(observation, dict):
            batch: Any = {key: torch.as_tensor(part)[None] for key, part in observation.items()}
        else:
            batch = torch.as_tensor(observation)[None]
        return network(batch)[0].cpu().numpy()

    return q_values


def save_agent(path: Path, state: dict[str, Tensor], description: AgentDescription) -> str:
    """Writes an agent file and gives its SHA-256.

    Args:
        path: Where to.
        state: The state dict of the Q-network.
        description: What it is.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    metadata = {"sndqn": json.dumps(description.to_dict(), sort_keys=True)}
    content = save_tensors(tensors, metadata)
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def load_agent(path: Path) -> Agent:
    """Reads an agent file, checks it against its own description, and builds the agent.

    Raises:
        AgentFileError: It is missing, damaged, or its tensors are not those of its network.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise AgentFileError(f"{path}: expected at most {MAX_BYTES} bytes, found more")
        content = path.read_bytes()
    except OSError as error:
        raise AgentFileError(f"{path}: no agent to read ({error.strerror})") from None
    try:
        description = AgentDescription.from_dict(_metadata(content))
        tensors = load_tensors(content)
        env = make_env(description.settings)
        network = description.network.build(env.observation_space, env.action_space)
        env.close()
    except SndqnError as error:
        raise AgentFileError(f"{path}: {error}") from None
    except (
        SafetensorError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
    ) as error:
        fault = " ".join(str(error).split())[:120]
        raise AgentFileError(f"{path}: expected an sndqn agent file, found {fault}") from None
    _check_tensors(path, network, tensors)
    network.load_state_dict(tensors)
    network.eval()
    return Agent(network, description, hashlib.sha256(content).hexdigest())


def _metadata(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise AgentFileError("expected a safetensors header, found something else")
    header = json.loads(content[8 : 8 + length])
    data = json.loads(header["__metadata__"]["sndqn"])
    if not isinstance(data, dict):
        raise AgentFileError("expected a description of the agent in the header, found none")
    return data


def _check_tensors(path: Path, network: QNetwork, tensors: dict[str, Tensor]) -> None:
    expected = network.state_dict()
    for name in [*expected, *tensors]:
        if name not in tensors or name not in expected:
            where = "missing" if name not in tensors else "not part of its network"
            raise AgentFileError(f"{path}: the tensor {name!r} is {where}")
        if (tensors[name].shape, tensors[name].dtype) != (
            expected[name].shape,
            expected[name].dtype,
        ):
            raise AgentFileError(
                f"{path}: {name!r}: expected {tuple(expected[name].shape)} "
                f"{expected[name].dtype}, found {tuple(tensors[name].shape)} {tensors[name].dtype}"
            )
        if not bool(torch.isfinite(tensors[name]).all()):
            raise AgentFileError(f"{path}: the tensor {name!r} is not finite")
