"""The one description of a Q-network: what policies, the factory and agent files share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from gymnasium import spaces
from torch import nn

from sndqn.errors import ConfigError
from sndqn.networks.extractors import EXTRACTORS, TORSOS, Torso, default_torso, hidden_after
from sndqn.networks.heads import HEADS, HeadName
from sndqn.networks.initializers import InitializerName
from sndqn.networks.normalization import NormalizationName
from sndqn.networks.parts import check_name
from sndqn.spectral.functional import Mode
from sndqn.spectral.schedulers import SchedulerForm, SchedulerName
from sndqn.spectral.selection import Selection, format_selection
from sndqn.spectral.spectral_layer import Bound, ConvNorm

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}

# How layers are normalised; "init" scales their initial weights alone and leaves them plain.
SpectralMode = Literal[Mode, "init"]


@dataclass(frozen=True)
class SpectralSettings:
    """What is normalised and how.

    Attributes:
        layers: Selection of weight layers, see `sndqn.spectral.select_layers`.
        bound: The value σ is held to, or "initial".
        mode: "normalize", "shrink", "track", which leaves the layers as they are, or "init", which
            multiplies their initial weights by bound / σ and leaves them free from then on.
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
    mode: SpectralMode = "normalize"
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
        if self.mode == "init" and self.bound == "initial":
            raise ConfigError(
                "sn_mode init: scales initial weights to a bound, found the bound they come with, "
                '"initial": give a number'
            )


# The settings as arguments of policies, of `make_q_network` and of the command line.
SN_ARGUMENTS = {f"sn_{f.name.removeprefix('n_')}": f.name for f in fields(SpectralSettings)}


@dataclass(frozen=True)
class NetworkSpec:
    """A Q-network as plain values: `make_q_network` builds it, a policy has it, a file holds it.

    A class that has a name among the torsos or activations is kept as that name.

    Attributes:
        torso: A name in `sndqn.networks.extractors.TORSOS`; None for what fits the observations.
            Outside of files also a features extractor class of one's own, or a module with
            `features_dim`.
        torso_kwargs: Its arguments: `features_dim`, `channels`, `width`, `pool`.
        head: A name in `sndqn.networks.heads.HEADS`.
        head_kwargs: Its own arguments: `n_atoms` and so on.
        dueling: Whether value and advantages have streams of their own.
        noisy: Whether the head's layers are noisy.
        net_arch: Hidden layers between torso and output; None for (64, 64), or none after a CNN.
        activation: Their activation: a name in `ACTIVATIONS`, or outside of files a class.
        normalization: "none", "layer" or "batch": of the hidden layers and convolutions, before
            their activation; see `sndqn.networks.normalization`.
        initializer: Initial weights, see `sndqn.networks.initializers`.
        spectral: What is normalised and how.

    Raises:
        ConfigError: A name that nothing has.
    """

    torso: Torso | None = None
    torso_kwargs: Mapping[str, Any] = field(default_factory=dict)
    head: HeadName = "linear"
    head_kwargs: Mapping[str, Any] = field(default_factory=dict)
    dueling: bool = False
    noisy: bool = False
    net_arch: tuple[int, ...] | None = None
    activation: str | type[nn.Module] = "relu"
    normalization: NormalizationName = "none"
    initializer: InitializerName = "torch"
    spectral: SpectralSettings = field(default_factory=SpectralSettings)

    def __post_init__(self) -> None:
        plain = {
            "torso": _name_of(self.torso, EXTRACTORS),
            "torso_kwargs": dict(self.torso_kwargs or {}),
            "head_kwargs": dict(self.head_kwargs or {}),
            "net_arch": None if self.net_arch is None else tuple(self.net_arch),
            "activation": _name_of(self.activation, ACTIVATIONS),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        check_name("head", self.head, HEADS)
        if isinstance(self.torso, str):
            check_name("torso", self.torso, TORSOS)
        if isinstance(self.activation, str):
            check_name("activation", self.activation, ACTIVATIONS)

    @property
    def activation_fn(self) -> type[nn.Module]:
        """The class of the activation."""
        activation = self.activation
        return ACTIVATIONS[activation] if isinstance(activation, str) else activation

    def changed(self, **arguments: Any) -> "NetworkSpec":
        """Returns this description with some of it changed.

        Args:
            **arguments: Attributes by name, `activation_fn` in the place of `activation`, and the
                attributes of `SpectralSettings` with sn_ before them: `sn_layers`, `sn_bound`,
                `sn_mode`, `sn_conv_norm`, `sn_power_iterations`, `sn_grad_through_norm`,
                `sn_scheduler`, `sn_scheduler_form`, `sn_scheduler_one_sided`. `head_kwargs` may
                also say `dueling` and `noisy`.

        Raises:
            TypeError: There is no such argument.
        """
        spectral = {SN_ARGUMENTS[n]: arguments.pop(n) for n in SN_ARGUMENTS if n in arguments}
        if spectral:
            arguments["spectral"] = replace(arguments.get("spectral", self.spectral), **spectral)
        if "activation_fn" in arguments:
            arguments["activation"] = arguments.pop("activation_fn")
        head_kwargs = dict(arguments.pop("head_kwargs", self.head_kwargs) or {})
        arguments.update({n: head_kwargs.pop(n) for n in ("dueling", "noisy") if n in head_kwargs})
        unknown = arguments.keys() - {f.name for f in fields(self)}
        if unknown:
            raise TypeError(f"a network has no argument {min(unknown)!r}")
        return replace(self, head_kwargs=head_kwargs, **arguments)

    def resolved(self, observation_space: spaces.Space[Any]) -> "NetworkSpec":
        """Returns this description with its torso, hidden layers and head's numbers written out.

        An implicit quantile head takes the dense layer that a CNN ends with behind its embedding of
        fractions, unless sizes are given: as in IQN's paper, and so that the layers and their
        indices are those of the other heads.

        Args:
            observation_space: What the network will see.
        """
        torso = default_torso(observation_space) if self.torso is None else self.torso
        torso_kwargs, net_arch = dict(self.torso_kwargs), self.net_arch
        units = TORSOS[torso].features_dim if isinstance(torso, str) else 0
        sizes_are_given = net_arch is not None or "features_dim" in torso_kwargs
        if self.head == "implicit_quantile" and units and not sizes_are_given:
            torso_kwargs["features_dim"], net_arch = 0, (units,)
        return replace(
            self,
            torso=torso,
            torso_kwargs=torso_kwargs,
            head_kwargs={**HEADS[self.head].defaults, **self.head_kwargs},
            net_arch=hidden_after(torso) if net_arch is None else net_arch,
        )


def _name_of(found: Any, table: Mapping[str, Any]) -> Any:
    """Returns the name that a table has for a class, or what was found."""
    return next((name for name, entry in table.items() if entry is found), found)
