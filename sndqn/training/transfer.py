"""Starting from another agent: its weights, as they act, in a new network."""

import copy

import torch

from sndqn.agents import Agent
from sndqn.errors import ConfigError
from sndqn.policies import SNDQNPolicy
from sndqn.spectral import remove_spectral_norm, weight_layers


def start_from(policy: SNDQNPolicy, agent: Agent) -> list[str]:
    """Loads an agent's weights into a policy; an output layer of another size stays new.

    Normalised layers of the agent come with their scale folded in, so that the function is the
    agent's. A layer that the policy normalises then has that weight: with bound "initial" its bound
    is the norm it came with.

    Args:
        policy: Whose online and target network are changed.
        agent: Where the weights come from.

    Returns:
        The names of the weight layers that stay new.

    Raises:
        ConfigError: Another layer than the output differs in name or shape; nothing was changed.
    """
    if agent.description.network.spectral.scheduler == "div_out":
        raise ConfigError(
            "init_from: the agent divides its outputs by the norms of its layers (div_out), which "
            "no weights can carry over: start from another agent"
        )
    given = remove_spectral_norm(copy.deepcopy(agent.network)).state_dict()
    own = policy.q_net.state_dict()
    outputs = [entry.name for entry in weight_layers(policy.q_net) if entry.index == -1]
    # Beside weights, the running statistics of batch normalisation; not singular vectors.
    learnt = set(remove_spectral_norm(copy.deepcopy(policy.q_net)).state_dict())
    taken: dict[str, torch.Tensor] = {}
    new: set[str] = set()
    for name in sorted(learnt | set(given)):
        if name in learnt and name in given and own[name].shape == given[name].shape:
            taken[name] = given[name]
            continue
        output = next((output for output in outputs if name.startswith(output + ".")), None)
        if output is None:
            raise ConfigError(
                "init_from: expected a network whose layers before the output are this one's, "
                f"found {name}: {_shape(given.get(name))} in the agent, {_shape(own.get(name))} "
                "here. Type its torso, features_dim, net_arch and algo"
            )
        new.add(output)
    # A plain layer's weight alone: normalised layers find their σ, and "initial" its bound.
    policy.q_net.load_state_dict(taken, strict=False)
    policy.q_net_target.load_state_dict(policy.q_net.state_dict())
    return [name for name in outputs if name in new]


def _shape(tensor: torch.Tensor | None) -> str:
    return "none" if tensor is None else str(tuple(tensor.shape))
