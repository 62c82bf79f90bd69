"""The Q-network factory: torso and head for the given spaces, SN on the selected layers."""

from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from sndqn.errors import ConfigError, SelectionError, UnsupportedSpaceError
from sndqn.networks.extractors import default_torso, extractor_of, hidden_after, normalization_of
from sndqn.networks.heads import make_head
from sndqn.networks.initializers import initialize
from sndqn.networks.noisy import NoisyLinear
from sndqn.networks.q_network import Observation, QNetwork
from sndqn.networks.spec import NetworkSpec, SpectralSettings
from sndqn.spectral import normalize_layers, scale_layers, select_layers
from sndqn.spectral.schedulers import SpectralScheduler

Network = TypeVar("Network", bound=nn.Module)


def make_q_network(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    spec: NetworkSpec | None = None,
    *,
    normalize_images: bool = True,
    **arguments: Any,
) -> QNetwork:
    """Makes a Q-network with SN on the selected layers.

    Initial weights depend on torch's random state alone, not on what is normalised, and are those
    of Stable-Baselines3's network of the same shape.

    Args:
        observation_space: Box (vectors, channel-first images, grids), Discrete, or Dict.
        action_space: Discrete.
        spec: The network; by default what fits the observations, with SN on layer -2.
        normalize_images: Whether images, uint8, are divided by 255.
        **arguments: What differs from that:

            - `torso`: "mlp", "nature_cnn", "der_cnn", "minatar_cnn", "impala_cnn", "combined" (Dict
              observations); a Stable-Baselines3 features extractor class; or a module with
              `features_dim`. By default what fits the observations.
            - `torso_kwargs`: Further arguments of the torso.
            - `head`: "linear", "categorical", "quantile" or "implicit_quantile".
            - `head_kwargs`: Further arguments of the head: `dueling`, `noisy` and the head's own.
            - `net_arch`: Hidden layers between torso and output; (64, 64), or none after a CNN.
            - `activation_fn`: Activation of those layers.
            - `normalization`: "layer" or "batch" normalisation of hidden layers and convolutions.
            - `initializer`: Initial weights, see `sndqn.networks.initializers`.
            - `sn_layers`: Which weight layers are normalised, "-2"; and `sn_bound`, `sn_mode`,
              `sn_conv_norm`, `sn_power_iterations`, `sn_grad_through_norm`, `sn_scheduler`,
              `sn_scheduler_form`, `sn_scheduler_one_sided`: see `SpectralSettings`.

    Raises:
        UnsupportedSpaceError: Actions that are not Discrete; an image with its channels last.
        SelectionError: A selection of layers that are not there.
        ConfigError: A name or a number that is out of range.
        TypeError: An argument that there is not.
    """
    if not isinstance(action_space, spaces.Discrete):
        raise UnsupportedSpaceError(
            f"Q-learning needs Discrete actions, found {action_space}: choose another environment"
        )
    spec = (spec or NetworkSpec()).changed(**arguments)
    torso = default_torso(observation_space) if spec.torso is None else spec.torso
    if not isinstance(torso, nn.Module):
        kwargs = {**spec.torso_kwargs, **normalization_of(torso, spec.normalization)}
        torso = extractor_of(torso)(observation_space, **kwargs)
    elif spec.normalization != "none":
        raise ConfigError("normalization: expected a torso by name, found a module: leave it out")
    q_net = make_head(
        spec.head,
        int(torso.features_dim),  # type: ignore[arg-type]
        int(action_space.n),
        hidden_after(torso) if spec.net_arch is None else spec.net_arch,
        spec.activation_fn,
        dueling=spec.dueling,
        noisy=spec.noisy,
        normalization=spec.normalization,
        **spec.head_kwargs,
    )
    network = QNetwork(observation_space, action_space, torso, q_net, normalize_images)
    initialize(network, spec.initializer)
    return apply_settings(network, observation_space, spec.spectral)


def apply_settings(
    network: Network, observation_space: spaces.Space[Any], settings: SpectralSettings
) -> Network:
    """Normalises the selected layers of a finished network, in place.

    Every buffer has its final shape from then on: Stable-Baselines3 collects those it copies once.

    Args:
        network: A module that takes observations.
        observation_space: Their space; an observation of zeros tells convolutions their sizes.
        settings: What is normalised and how.
    """
    chosen = select_layers(network, settings.layers)
    noisy = [entry.name for entry in chosen if isinstance(entry.layer, NoisyLinear)]
    if noisy:
        raise SelectionError(
            f"sn_layers {settings.layers}: {noisy[0]} is a noisy layer, and its norm changes with "
            "each draw of the noise: no bound can be held. Select other layers, such as convs, or "
            "leave noise out"
        )
    scales_once = settings.mode == "init"
    (scale_layers if scales_once else normalize_layers)(
        network,
        [entry.name for entry in chosen],
        zero_observation(observation_space),
        bound=settings.bound,
        mode="normalize" if scales_once else settings.mode,
        conv_norm=settings.conv_norm,
        n_power_iterations=settings.n_power_iterations,
        grad_through_norm=settings.grad_through_norm,
    )
    if settings.scheduler != "none":
        scheduler: Any = SpectralScheduler(
            network, settings.scheduler, settings.scheduler_form, settings.scheduler_one_sided
        )
        network.scheduler = scheduler
    return network


def zero_observation(space: spaces.Space[Any]) -> Observation:
    """Returns a batch of one observation, all zeros, without the space's random state."""
    if isinstance(space, spaces.Dict):
        return {key: _zeros(part) for key, part in space.spaces.items()}
    return _zeros(space)


def _zeros(space: spaces.Space[Any]) -> Tensor:
    return torch.as_tensor(np.zeros((1, *(space.shape or ())), dtype=space.dtype))
