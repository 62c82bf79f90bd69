"""The Q-network factory: torso and head for the given spaces, SN on the selected layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import (
    get_flattened_obs_dim,
    is_image_space,
    is_image_space_channels_first,
    preprocess_obs,
)
from stable_baselines3.common.torch_layers import CombinedExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from torch import Tensor, nn

from sndqn.errors import ConfigError, SelectionError, UnsupportedSpaceError
from sndqn.networks.heads import HeadName, make_head
from sndqn.networks.initializers import InitializerName, initialize
from sndqn.networks.noisy import NoisyLinear
from sndqn.networks.torsos import MLP, ImpalaCNN, MinAtarCNN, NatureCNN
from sndqn.spectral import normalize_layers, select_layers
from sndqn.spectral.functional import Mode
from sndqn.spectral.layers import Bound, ConvNorm
from sndqn.spectral.schedulers import SchedulerForm, SchedulerName, SpectralScheduler
from sndqn.spectral.selection import Selection, format_selection

TorsoName = Literal["mlp", "nature_cnn", "minatar_cnn", "impala_cnn", "combined"]
Torso = TorsoName | nn.Module | Callable[..., nn.Module]
Observation = Tensor | dict[str, Tensor]
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


@dataclass(frozen=True)
class SpectralSettings:
    """What is normalised and how.

    Attributes:
        layers: Selection of weight layers, see `sndqn.spectral.select_layers`.
        bound: The value σ is held to, or "initial".
        mode: "normalize", "shrink", or "track", which leaves the layers as they are.
        conv_norm: "operator" or "kernel".
        n_power_iterations: Steps of power iteration in each training-mode forward pass.
        grad_through_norm: Whether the gradient flows through σ.
        scheduler: What the norms of tracked layers steer: "none", "div_out", "div_grad",
            "mul_eps" or "div_lr"; see `sndqn.spectral.schedulers`.
        scheduler_form: "product" or "layer".
        scheduler_one_sided: Whether norms below the bound count as at the bound.
    """

    layers: Selection = "-2"
    bound: Bound = 1.0
    mode: Mode = "normalize"
    conv_norm: ConvNorm = "operator"
    n_power_iterations: int = 1
    grad_through_norm: bool = True
    scheduler: SchedulerName = "none"
    scheduler_form: SchedulerForm = "product"
    scheduler_one_sided: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", format_selection(self.layers))
        if self.scheduler != "none" and self.mode != "track":
            raise ConfigError(
                f"sn_scheduler {self.scheduler}: stands in the place of normalisation, and needs "
                f'sn_mode "track", found "{self.mode}". Type --sn-mode track'
            )

    def as_arguments(self) -> dict[str, Any]:
        """Gives the settings as the `sn_*` arguments of policies and `make_q_network`."""
        return {
            "sn_layers": self.layers,
            "sn_bound": self.bound,
            "sn_mode": self.mode,
            "sn_conv_norm": self.conv_norm,
            "sn_power_iterations": self.n_power_iterations,
            "sn_grad_through_norm": self.grad_through_norm,
            "sn_scheduler": self.scheduler,
            "sn_scheduler_form": self.scheduler_form,
            "sn_scheduler_one_sided": self.scheduler_one_sided,
        }

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> "SpectralSettings":
        """Takes the `sn_*` arguments out of others and makes the settings of them."""
        names = {f"sn_{f.name}": f.name for f in fields(cls)}
        names["sn_power_iterations"] = names.pop("sn_n_power_iterations")
        given = [name for name in arguments if name in names]
        return cls(**{names[name]: arguments.pop(name) for name in given})


class ActionValues:
    """What every network has: outputs for a loss to work on, and Q-values made of them.

    Attributes:
        q_net: The head, see `sndqn.networks.heads`.
        scheduler: The spectral scheduler, if any.
    """

    observation_space: spaces.Space[Any]
    normalize_images: bool
    features_extractor: Any
    q_net: Any
    scheduler: SpectralScheduler | None = None

    def prepare(self, observation: Observation) -> Observation:
        """Makes floats of observations: images divided by 255, discrete ones as one-hot vectors."""
        return preprocess_obs(observation, self.observation_space, self.normalize_images)

    def outputs(self, observation: Observation, fractions: Tensor | None = None) -> Tensor:
        """Maps a batch of observations to the head's outputs, (batch, actions) or with (..., n).

        Args:
            observation: As the environment gives them.
            fractions: Of an implicit quantile head, (batch, n); its own, even ones by default.
        """
        return self.outputs_of(self.prepare(observation), fractions)

    def outputs_of(self, prepared: Observation, fractions: Tensor | None = None) -> Tensor:
        """Maps a batch of prepared observations to the head's outputs."""
        features = self.features_extractor(prepared)
        outputs: Tensor = self.q_net.outputs(features, fractions)
        return outputs if self.scheduler is None else self.scheduler.divide_output(outputs)

    def forward(self, observation: Observation) -> Tensor:
        """Maps a batch of observations to Q-values, shape (batch, actions)."""
        q_values: Tensor = self.q_net.q_values(self.outputs(observation))
        return q_values


class QNetwork(ActionValues, nn.Module):
    """Q-values of every action, from observations as the environment gives them.

    Args:
        observation_space: Its images, uint8, are divided by 255.
        action_space: The actions.
        features_extractor: The torso; has `features_dim`.
        q_net: The head.
        normalize_images: Whether images are divided by 255.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        features_extractor: nn.Module,
        q_net: nn.Module,
        normalize_images: bool = True,
    ) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.action_space = action_space
        self.normalize_images = normalize_images
        self.features_extractor = features_extractor
        self.q_net = q_net


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
    shape: Sequence[int] = observation_space.shape or ()
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
    return _TORSOS[torso](shape, **kwargs)


def default_torso(observation_space: spaces.Space[Any]) -> TorsoName:
    """Chooses the torso that fits: a CNN for images and grids, an MLP for the rest."""
    if isinstance(observation_space, spaces.Dict):
        return "combined"
    if is_image_space(observation_space):
        return "nature_cnn"
    if isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 3:
        return "minatar_cnn"
    return "mlp"


def zero_observation(space: spaces.Space[Any]) -> Observation:
    """Gives a batch of one observation, all zeros, without the space's random state."""
    if isinstance(space, spaces.Dict):
        return {key: _zeros(part) for key, part in space.spaces.items()}
    return _zeros(space)


def _zeros(space: spaces.Space[Any]) -> Tensor:
    return torch.as_tensor(np.zeros((1, *(space.shape or ())), dtype=space.dtype))
