"""The gap between a network and its target network, before a sync and right after it."""

import copy
from typing import Any

import torch
from stable_baselines3.common.logger import Logger
from torch import Tensor

from sndqn.diagnostics.networks import action_values, output_network
from sndqn.networks.q_network import Observation


def target_gap(online: Tensor, target: Tensor) -> float:
    """Computes the mean |Q - Q_target| over states and actions, from Q-values of both networks."""
    return float((online.cpu().double() - target.cpu().double()).abs().mean())


def gap_after_sync(model: Any, observations: Observation) -> float:
    """Computes the target gap that the model's own sync would leave if it were made now.

    After a hard sync it is 0, or something is broken: the target network computes something else
    than the network it was copied from. torch's SN under Stable-Baselines3 is found so.

    The sync is made by the model's `_on_step`, of a copy: the model stays as it is.

    Args:
        model: Stable-Baselines3's DQN, sb3-contrib's QRDQN, or one of sndqn's algorithms.
        observations: States, as the environment gives them, on the model's device.
    """
    policy = synced_copy(model)
    values = [action_values(output_network(policy, t), observations) for t in (False, True)]
    return target_gap(*values)


@torch.no_grad()
def synced_copy(model: Any) -> Any:
    """Returns a copy of a model's policy after the model's own sync of its target network."""
    double = copy.copy(model)
    # Together, so that the lists hold the copies' tensors exactly where they held the networks'.
    names = [n for n in ("batch_norm_stats", "batch_norm_stats_target") if hasattr(model, n)]
    lists: list[Any]
    double.policy, *lists = copy.deepcopy([model.policy, *(getattr(model, n) for n in names)])
    for name, tensors in zip(names, lists, strict=True):
        setattr(double, name, tensors)
    double._create_aliases()
    double._logger = Logger(None, [])
    every = max(model.target_update_interval // model.n_envs, 1)
    double._n_calls = every - 1
    double._on_step()
    return double.policy
