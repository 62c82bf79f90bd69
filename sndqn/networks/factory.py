"""The Q-network factory: torso and head for the given spaces, SN on the selected layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import (
    get_flattened_obs_dim,
    is_image_space,
    is_image_space_channels_first,
)
from stable_baselines3.common.torch_layers import CombinedExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from torch import Tensor, nn

from sndqn.errors import ConfigError, SelectionError, UnsupportedSpaceError
from sndqn.networks.heads import HeadName, make_head
from sndqn.networks.initializers import InitializerName, initialize
from sndqn.networks.noisy import NoisyLinear
from sndqn.networks.q_network import Observation, QNetwork
from sndqn.networks.settings import SpectralSettings
from sndqn.networks.torsos import (
    MINATAR_SIDE,
    MLP,
    NATURE_SIDE,
    ImpalaCNN,
    MinAtarCNN,
    NatureCNN,
)
from sndqn.spectral import normalize_layers, select_layers
from sndqn.spectral.schedulers import SpectralScheduler

TorsoName = Literal["mlp", "nature_cnn", "minatar_cnn", "impala_cnn", "combined"]
Torso = TorsoName | nn.Module | Callable[..., nn.Module]
Network = TypeVar("Network", bound=nn.Module)

_TORSOS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "nature_cnn": NatureCNN,
    "minatar_cnn": MinAtarCNN,
    "impala_cnn": ImpalaCNN,
    "combined": CombinedExtractor,
}
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def make_q_network(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    *,
    torso: Torso | None = None,
    torso_kwargs: Mapping[str, Any] | None = None,
    head: HeadName = "linear",
    head_kwargs: Mapping[str, Any] | None = None,
    net_arch: Sequence[int] | None = None,
    activation_fn: type[nn.Module] = nn.ReLU,
    initializer: InitializerName = "torch",
    normalize_images: bool = True,
    **spectral: Any,
) -> QNetwork:
    """Makes a Q-network with SN on the selected layers.

    Initial weights depend on torch's random state alone, not on what is normalised, and are those
    of Stable-Baselines3's network of the same shape.

    Args:
        observation_space: Box (vectors, channel-first images, grids), Discrete, or Dict.
        action_space: Discrete.
        torso: "mlp", "nature_cnn", "minatar_cnn", "impala_cnn", "combined" (Dict observations); a
            Stable-Baselines3 features extractor class; or a module with `features_dim`. By default
            what fits the observations.
        torso_kwargs: Further arguments of the torso.
        head: "linear", "categorical", "quantile" or "implicit_quantile".
        head_kwargs: Further arguments of the head: `dueling`, `noisy` and the head's own.
        net_arch: Hidden layers between torso and output; (64, 64), or none after a CNN.
        activation_fn: Activation of those layers.
        initializer: Initial weights, see `sndqn.networks.initializers`.
        normalize_images: Whether images, uint8, are divided by 255.
        **spectral: The attributes of `SpectralSettings` with sn_ before them: `sn_layers`, "-2" by
            default, `sn_bound`, `sn_mode`, `sn_conv_norm`, `sn_power_iterations`,
            `sn_grad_through_norm`, `sn_scheduler`, `sn_scheduler_form`, `sn_scheduler_one_sided`.

    Raises:
        UnsupportedSpaceError: Actions that are not Discrete; an image with its channels last.
        SelectionError: A selection of layers that are not there.
    """
    if not isinstance(action_space, spaces.Discrete):
        raise UnsupportedSpaceError(
            f"Q-learning needs Discrete actions, found {action_space}: choose another environment"
        )
    settings = SpectralSettings.from_arguments(spectral)
    if spectral:
        raise TypeError(f"make_q_network has no argument {next(iter(spectral))!r}")
    features_extractor = make_torso(observation_space, torso, **(torso_kwargs or {}))
    if net_arch is None:
        cnns = (NatureCNN, MinAtarCNN, ImpalaCNN, SB3NatureCNN)
        net_arch = () if isinstance(features_extractor, cnns) else (64, 64)
    q_net = make_head(
        head,
        int(features_extractor.features_dim),  # type: ignore[arg-type]
        int(action_space.n),
        net_arch,
        activation_fn,
        **(head_kwargs or {}),
    )
    network = QNetwork(observation_space, action_space, features_extractor, q_net, normalize_images)
    initialize(network, initializer)
    return apply_settings(network, observation_space, settings)


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
    normalize_layers(
        network,
        [entry.name for entry in chosen],
        zero_observation(observation_space),
        bound=settings.bound,
        mode=settings.mode,
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


@dataclass(frozen=True)
class NetworkSpec:
    """A Q-network as plain values, so that a file can say how to build it without naming code.

    Attributes:
        torso: Name of the torso.
        torso_kwargs: Its arguments: `features_dim`, `channels`, `width`, `pool`.
        head: Name of the head.
        head_kwargs: Its own arguments: `n_atoms` and so on.
        dueling: Whether value and advantages have streams of their own.
        noisy: Whether the head's layers are noisy.
        net_arch: Hidden layers between torso and output; None for the torso's default.
        activation: Name of their activation.
        initializer: Initial weights.
        spectral: What is normalised and how.
    """

    torso: TorsoName
    torso_kwargs: dict[str, Any] = field(default_factory=dict)
    head: HeadName = "linear"
    head_kwargs: dict[str, Any] = field(default_factory=dict)
    dueling: bool = False
    noisy: bool = False
    net_arch: tuple[int, ...] | None = None
    activation: str = "relu"
    initializer: InitializerName = "torch"
    spectral: SpectralSettings = field(default_factory=SpectralSettings)

    def build(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> QNetwork:
        """Makes the network for these spaces."""
        return make_q_network(
            observation_space,
            action_space,
            torso=self.torso,
            torso_kwargs=self.torso_kwargs,
            head=self.head,
            head_kwargs={"dueling": self.dueling, "noisy": self.noisy, **self.head_kwargs},
            net_arch=self.net_arch,
            activation_fn=ACTIVATIONS[self.activation],
            initializer=self.initializer,
            **self.spectral.as_arguments(),
        )


def make_torso(
    observation_space: spaces.Space[Any], torso: Torso | None = None, **kwargs: Any
) -> nn.Module:
    """Makes a torso for observations; see `make_q_network`."""
    if torso is None:
        torso = default_torso(observation_space)
    if isinstance(torso, nn.Module):
        return torso
    if callable(torso):
        return torso(observation_space, **kwargs)
    if torso not in _TORSOS:
        raise ConfigError(f"torso: expected one of {', '.join(_TORSOS)}, found {torso!r}")
    if torso == "combined":
        return CombinedExtractor(observation_space, **kwargs)  # type: ignore[arg-type]
    shape, arguments = torso_arguments(observation_space, torso, kwargs)
    return _TORSOS[torso](shape, **arguments)


def torso_arguments(
    observation_space: spaces.Space[Any], torso: TorsoName, kwargs: Mapping[str, Any]
) -> tuple[Sequence[int], dict[str, Any]]:
    """Gives the shape of observations as a torso takes them, and its further arguments.

    Raises:
        UnsupportedSpaceError: The torso does not take them.
    """
    shape: Sequence[int] = observation_space.shape or ()
    kwargs = dict(kwargs)
    if torso == "mlp":
        shape = (get_flattened_obs_dim(observation_space),)
        features_dim = kwargs.pop("features_dim", 0)
        kwargs.setdefault("hidden", (features_dim,) if features_dim else ())
    elif len(shape) != 3:
        raise UnsupportedSpaceError(
            f"torso {torso}: expected observations of (channels, height, width), found "
            f'{observation_space}. Use torso "mlp"'
        )
    elif is_image_space(observation_space) and not is_image_space_channels_first(
        observation_space  # type: ignore[arg-type]
    ):
        raise UnsupportedSpaceError(
            f"torso {torso}: expected (channels, height, width), found channels last, {shape}: "
            "wrap the environment in stable_baselines3.common.vec_env.VecTransposeImage"
        )
    return shape, kwargs


def default_torso(observation_space: spaces.Space[Any]) -> TorsoName:
    """Chooses the torso that fits: a CNN for images and grids, by size, an MLP for the rest."""
    if isinstance(observation_space, spaces.Dict):
        return "combined"
    if isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 3:
        side = min(observation_space.shape[1:])
        if side >= NATURE_SIDE:
            return "nature_cnn"
        return "minatar_cnn" if side >= MINATAR_SIDE else "mlp"
    return "mlp"


def zero_observation(space: spaces.Space[Any]) -> Observation:
    """Gives a batch of one observation, all zeros, without the space's random state."""
    if isinstance(space, spaces.Dict):
        return {key: _zeros(part) for key, part in space.spaces.items()}
    return _zeros(space)


def _zeros(space: spaces.Space[Any]) -> Tensor:
    return torch.as_tensor(np.zeros((1, *(space.shape or ())), dtype=space.dtype))
