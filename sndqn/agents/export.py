"""Agents for other tools: as ONNX, or as a zip that Stable-Baselines3 loads.

Both hold the network as it acts: each normalised layer as a plain one with its effective weight,
each noisy layer as its mean. So what reads them needs no sndqn.
"""

import copy
import importlib.util
import io
import logging
import warnings
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.preprocessing import is_image_space
from torch import Tensor, nn

from sndqn.agents.agents import Agent
from sndqn.envs import make_env
from sndqn.errors import AgentFileError, MissingExtraError
from sndqn.networks import QNetwork
from sndqn.networks.factory import zero_observation
from sndqn.networks.noisy import NoisyLinear
from sndqn.spectral import remove_spectral_norm, weight_layers
from sndqn.spectral.apply import replace_layer

_OPSET = 18


def effective_network(agent: Agent) -> QNetwork:
    """Returns the agent's network made of plain layers, computing the same."""
    network = copy.deepcopy(agent.network)
    remove_spectral_norm(network)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, NoisyLinear):  # acts with its mean weight
            plain = nn.Linear(layer.in_features, layer.out_features)
            plain.load_state_dict({"weight": layer.weight, "bias": layer.bias})
            replace_layer(network, name, plain)
    return network.eval()


def to_onnx(agent: Agent) -> bytes:
    """Writes the network as an ONNX model, from a batch of observations to Q-values.

    Observations are as the environment gives them: the model divides images by 255 itself.

    Raises:
        AgentFileError: The observations are a Dict.
        MissingExtraError: The packages for ONNX are not installed.
    """
    if isinstance(agent.network.observation_space, spaces.Dict):
        raise AgentFileError("--format onnx: expected observations of one array, found a Dict")
    if not all(map(importlib.util.find_spec, ("onnx", "onnxscript"))):
        raise MissingExtraError('ONNX is not installed; type: pip install "sndqn[onnx]"')
    # Two: a batch of one would be taken for a constant.
    example = zero_observation(agent.network.observation_space).repeat_interleave(2, dim=0)  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter to its own authors
        # It also notes, once each, operators of packages that are not installed.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program: Any = torch.onnx.export(
            effective_network(agent),
            (example,),
            input_names=["observation"],
            output_names=["q_values"],
            dynamic_shapes={"observation": {0: torch.export.Dim("batch")}},
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    content: bytes = program.model_proto.SerializeToString()
    return content


def to_sb3(agent: Agent) -> bytes:
    """Writes a zip for `DQN.load` of Stable-Baselines3, or `QRDQN.load` of sb3-contrib.

    The policy is their own MlpPolicy or CnnPolicy, so that loading needs no sndqn.

    Raises:
        AgentFileError: They have no such algorithm or network; the message says which.
        MissingExtraError: sb3-contrib is not installed.
    """
    about, space = agent.description, agent.network.observation_space
    spec = about.network
    units = [entry.layer.out_features for entry in _linear_layers(agent.network)]
    lacks = {
        f"algorithm {about.algo}": about.algo not in ("dqn", "qr-dqn"),
        "dueling streams": spec.dueling,
        f"{spec.normalization} normalisation": spec.normalization != "none",
        f"torso {spec.torso}": spec.torso not in ("mlp", "nature_cnn"),
        "division of outputs (div_out)": spec.spectral.scheduler == "div_out",
        "Nature CNN without its dense layer": spec.torso_kwargs.get("features_dim") == 0
        and spec.torso == "nature_cnn",
        "Nature CNN for observations other than images": spec.torso == "nature_cnn"
        and not is_image_space(space),
        "two activations in one network": spec.torso == "mlp"
        and bool(spec.torso_kwargs.get("features_dim"))
        and spec.activation != "relu",
    }
    for what, lacking in lacks.items():
        if lacking:
            raise AgentFileError(
                f"--format sb3: Stable-Baselines3 has no {what}. Type --format onnx or sndqn"
            )
    arguments: dict[str, Any] = {"activation_fn": spec.activation_fn}
    if spec.torso == "nature_cnn":
        arguments["features_extractor_kwargs"] = {"features_dim": units.pop(0)}
    arguments["net_arch"] = units[:-1]
    env = make_env(about.settings)
    policy = "CnnPolicy" if spec.torso == "nature_cnn" else "MlpPolicy"
    kwargs: dict[str, Any] = {"buffer_size": 1, "device": "cpu", "policy_kwargs": arguments}
    with torch.random.fork_rng(devices=()):  # the weights it draws are replaced
        if about.algo == "dqn":
            model: Any = DQN(policy, env, **kwargs)
            networks = (model.q_net, model.q_net_target)
        else:
            arguments["n_quantiles"] = units[-1] // int(env.action_space.n)  # type: ignore[attr-defined]
            model = _qrdqn()(policy, env, **kwargs)
            networks = (model.quantile_net, model.quantile_net_target)
    for network in networks:
        _copy_weights(effective_network(agent), network, arguments.get("n_quantiles", 1))
    _check_the_same(agent, model)
    file = io.BytesIO()
    model.save(file)
    env.close()
    return file.getvalue()


def _qrdqn() -> Any:
    if importlib.util.find_spec("sb3_contrib") is None:
        raise MissingExtraError('QRDQN is in sb3-contrib; type: pip install "sndqn[contrib]"')
    from sb3_contrib import QRDQN

    return QRDQN


def _linear_layers(network: nn.Module) -> list[Any]:
    return [entry for entry in weight_layers(network) if isinstance(entry.layer, nn.Linear)]


@torch.no_grad()
def _copy_weights(ours: nn.Module, theirs: nn.Module, n_quantiles: int) -> None:
    pairs = zip(weight_layers(ours), weight_layers(theirs), strict=True)
    for source, target in pairs:
        for name in ("weight", "bias"):
            tensor: Tensor = getattr(source.layer, name)
            if source.index == -1:  # quantiles of each action; theirs: actions of each quantile
                tensor = (
                    tensor.view(-1, n_quantiles, *tensor.shape[1:]).transpose(0, 1).flatten(0, 1)
                )
            getattr(target.layer, name).copy_(tensor)


def _check_the_same(agent: Agent, model: Any) -> None:
    """Acts with both: a difference would be a mistake of this module."""
    space = copy.deepcopy(agent.network.observation_space)
    space.seed(0)
    batch = torch.as_tensor(np.stack([space.sample() for _ in range(8)]))
    with torch.no_grad():
        ours = agent.network(batch)
        theirs = (
            model.q_net(batch) if hasattr(model, "q_net") else model.quantile_net(batch).mean(1)
        )
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4 * float(ours.abs().max()))
