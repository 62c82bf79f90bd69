"""Agents: a network that acts, what it is, and the file it lives in.

A file is read in an order that lets it ask for nothing: its size, its header, its description, its
digest; then the network is planned without memory, and its shapes are compared with the file's;
only then is it built and filled. What the file says of norms is computed again.
"""

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from sndqn.agents.container import MAX_BYTES, Shape, pack, unpack
from sndqn.agents.description import AgentDescription
from sndqn.agents.shapes import ShapesAlone
from sndqn.diagnostics import sigma_of
from sndqn.envs import EnvSettings, make_env
from sndqn.errors import AgentFileError, ConfigError, RunFolderError, SndqnError, printable
from sndqn.evaluation.values import NetworkValues
from sndqn.files import read_bytes, sha256_of, write_bytes
from sndqn.networks import NetworkSpec, QNetwork, SpectralSettings, make_q_network
from sndqn.networks.factory import apply_settings, zero_observation
from sndqn.spectral import SpectralLayer, weight_layers
from sndqn.spectral.subspace import TINY

# Of the outputs of all layers for one observation; a Nature CNN has 0.2 million bytes, Beyond The
# Rainbow's network 6 million.
MAX_ACTIVATION_BYTES = 64 * 1024 * 1024
# How far a stored σ may be from its weight's. Training follows σ to 2 %; what is off by more than
# this is another weight's, or a wrong claim.
SIGMA_TOLERANCE = 0.1

Spaces = tuple[spaces.Space[Any], spaces.Space[Any]]


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

    @cached_property
    def values(self) -> NetworkValues:
        """Its Q-function, of one observation or of many at once."""
        return NetworkValues(self.network)

    def q_values(self, observation: Any) -> Any:
        """Returns the Q-values of one observation as an array, shape (actions,)."""
        return self.values(observation)


def save_agent(path: Path, state: dict[str, Tensor], description: AgentDescription) -> str:
    """Writes an agent file and gives its SHA-256.

    Args:
        path: Where to.
        state: The state dict of the Q-network.
        description: What it is.
    """
    content = pack(state, description)
    write_bytes(path, content)
    return sha256_of(content)


def load_agent(path: Path, sha256: str | None = None) -> Agent:
    """Reads an agent file, checks it against its own description, and builds the agent.

    Args:
        path: The file.
        sha256: What the SHA-256 of the file must be; None takes any.

    Raises:
        AgentFileError: It is missing, damaged, contradicts itself, or is not the file expected.
    """
    return agent_from_bytes(read_agent_bytes(path), str(path), sha256)


def read_agent_bytes(path: Path) -> bytes:
    """Reads a file that may be an agent's, if it is no larger than one.

    Raises:
        AgentFileError: There is none, or it is larger.
    """
    try:
        return read_bytes(path, MAX_BYTES)
    except RunFolderError as error:
        raise AgentFileError(f"{path}: no agent to read: {error}") from None


def agent_from_bytes(content: bytes, name: str, sha256: str | None = None) -> Agent:
    """Builds the agent of a file's content.

    Args:
        content: The bytes of an agent file.
        name: What messages call it.
        sha256: What its SHA-256 must be; None takes any.

    Raises:
        AgentFileError: As `load_agent`.
    """
    found = sha256_of(content)
    try:
        if sha256 is not None:
            _check_pin(sha256, found)
        contents = unpack(content)
        network = _build(contents.description, contents.shapes)
        tensors = contents.tensors()
        for tensor_name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise AgentFileError(f"the tensor {tensor_name} is not finite")
        network.load_state_dict(tensors)
        network.eval()
        _check_norms(network, contents.description.network.spectral)
        for layer in network.modules():
            if isinstance(layer, SpectralLayer):
                layer.trusts_sigma = True  # as in training, to the bit
    except SndqnError as error:
        raise AgentFileError(printable(f"{name}: {error}")) from None
    return Agent(network, contents.description, found)


def _check_pin(expected: str, found: str) -> None:
    if re.fullmatch(r"[0-9a-fA-F]{64}", expected) is None:
        raise AgentFileError("--sha256: expected 64 hexadecimal digits, as `sndqn inspect` shows")
    if expected.lower() != found:
        raise AgentFileError(f"expected SHA-256 {expected.lower()}, found {found}: another file")


def _build(description: AgentDescription, shapes: dict[str, Shape]) -> QNetwork:
    """Makes the network that a description and the shapes of its tensors agree on."""
    where = spaces_of(description.settings)
    planned = plan(description.network, where)
    _check_memory(planned, where)
    _compare(shapes_of(planned), shapes, others_allowed=True)
    with torch.random.fork_rng(devices=()):  # the weights it draws are replaced
        network = make_q_network(*where, _plain(description.network))
    for entry in weight_layers(network):
        # One entry of 1, whose σ is found at once: that of the weights is in the file.
        with torch.no_grad():
            entry.layer.weight.zero_().flatten()[0] = 1.0
    apply_settings(network, where[0], description.network.spectral)
    _compare(shapes_of(network), shapes)
    return network


def check_description(
    description: AgentDescription, observation_space: Any, action_space: Any
) -> None:
    """Refuses an agent that no file could hold, before it is trained.

    Args:
        description: What it is going to be.
        observation_space: Of its environment.
        action_space: Of its environment.

    Raises:
        ConfigError: It is too large, or not a network at all.
    """
    try:
        AgentDescription.from_dict(json.loads(json.dumps(description.to_dict())))
        where = (observation_space, action_space)
        _check_memory(plan(description.network, where), where)
    except AgentFileError as error:
        raise ConfigError(f"no agent can be made of these settings: {error}") from None


def spaces_of(settings: EnvSettings) -> Spaces:
    """Returns the observation and action space of an environment.

    Raises:
        SndqnError: It cannot be made.
    """
    try:
        env = make_env(settings)
        env.close()
    except SndqnError:
        raise
    except Exception as error:
        # An environment is foreign code, called with a file's values: it can raise anything.
        reason = " ".join(str(error).split())[:150]
        raise AgentFileError(f"its environment cannot be made: {reason}") from None
    return env.observation_space, env.action_space


def _plain(spec: NetworkSpec) -> NetworkSpec:
    return replace(spec, spectral=SpectralSettings("none"), initializer="torch")


def plan(spec: NetworkSpec, where: Spaces) -> QNetwork:
    """Makes a network of shapes alone."""
    try:
        with torch.device("meta"), ShapesAlone():
            # Batch normalisation takes no batch of one in training mode.
            return make_q_network(*where, _plain(spec)).eval()
    except SndqnError:
        raise
    except Exception as error:
        # torch, Stable-Baselines3 and the torsos each have their own way to refuse sizes.
        reason = " ".join(str(error).split())[:150]
        raise AgentFileError(f"no network has these settings: {reason}") from None


def _check_memory(plan: QNetwork, where: Spaces) -> None:
    weights = sum(4 * tensor.numel() for tensor in plan.state_dict().values())
    if weights > MAX_BYTES:
        raise AgentFileError(f"expected at most {MAX_BYTES} bytes of weights, found {weights}")
    activations = 0

    def count(layer: nn.Module, inputs: object, output: object) -> None:
        nonlocal activations
        activations += 4 * output.numel() if isinstance(output, Tensor) else 0

    for layer in plan.modules():
        layer.register_forward_hook(count)
    try:
        with torch.device("meta"), ShapesAlone():
            plan.outputs(zero_observation(where[0]))
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise AgentFileError(f"its network takes no observations: {reason}") from None
    if activations > MAX_ACTIVATION_BYTES:
        raise AgentFileError(
            f"expected layers of at most {MAX_ACTIVATION_BYTES} bytes of output for an "
            f"observation, found {activations}"
        )


def shapes_of(network: nn.Module) -> dict[str, Shape]:
    """Returns the shape of each tensor of a network, by name."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


# What a layer follows, as many as the version that saved it thought right.
_VECTORS = (".running_u", ".running_v")
_N_VECTORS = range(1, 17)


def _compare(
    expected: dict[str, Shape], found: dict[str, Shape], *, others_allowed: bool = False
) -> None:
    """Refuses tensors that are not those of the network, which may lack spectral ones yet."""
    for name in [*expected, *found]:
        if name not in found:
            raise AgentFileError(f"the tensor {name!r} is missing")
        if name not in expected:
            if others_allowed:
                continue
            raise AgentFileError(f"the tensor {name[:60]!r} is not part of its network")
        if name.endswith(_VECTORS) and found[name] and found[name][0] in _N_VECTORS:
            expected[name] = (found[name][0], *expected[name][1:])
        if found[name] != expected[name]:
            raise AgentFileError(f"{name!r}: expected {expected[name]}, found {found[name]}")


def _check_norms(network: QNetwork, settings: SpectralSettings) -> None:
    """Refuses a σ or a bound that is not what the weights and the description say."""
    for name, layer in network.named_modules():
        if not isinstance(layer, SpectralLayer):
            continue
        bound, stored = float(layer.bound), float(layer.running_sigma)
        described = bound if settings.bound == "initial" else settings.bound
        if not (bound > 0 and bound == float(torch.tensor(described))):
            raise AgentFileError(f"{name}: expected the bound {described:g}, found {bound:g}")
        # The vectors that training followed may see more than so short a search.
        sigma = max(sigma_of(layer, rtol=0.01), float(layer.stretch_of_vectors()))
        if not abs(stored - sigma) <= SIGMA_TOLERANCE * sigma + TINY:
            raise AgentFileError(
                f"{name}: expected the σ of its weight, {sigma:.6g}, found {stored:.6g}: "
                "the layer would not act with the norm it claims"
            )
