"""The table of torsos, and each as a features extractor, the class that an SB3 policy takes.

A new torso is a class in `sndqn.networks.torsos` and an entry in `TORSOS`. `minatar_cnn` and its
like are the extractors: of this module by name, and in `EXTRACTORS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gymnasium import spaces
from stable_baselines3.common.preprocessing import (
    get_flattened_obs_dim,
    is_image_space,
    is_image_space_channels_first,
)
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
)
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from torch import nn

from sndqn.errors import ConfigError, UnsupportedSpaceError
from sndqn.files.fields import MAX_LAYERS, MAX_SIZE, either, whole, wholes
from sndqn.networks.normalization import NormalizationName
from sndqn.networks.parts import Part
from sndqn.networks.torsos import (
    MINATAR_SIDE,
    MLP,
    NATURE_SIDE,
    DataEfficientCNN,
    ImpalaCNN,
    MinAtarCNN,
    NatureCNN,
)

Extractor = Callable[..., nn.Module]
Torso = str | Extractor | nn.Module


@dataclass(frozen=True)
class TorsoPart(Part):
    """An entry of the table of torsos.

    Attributes:
        make: Its class.
        takes: "image", of (channels, height, width), "array", of any shape, or "dict".
    """

    make: type[nn.Module]
    takes: Literal["image", "array", "dict"] = "image"

    @property
    def features_dim(self) -> int:
        """Units of the dense layer that it ends with by default, as a CNN does; 0 for none."""
        units: int = self.defaults.get("features_dim", 0)
        return units


_UNITS = {"features_dim": whole(0, MAX_SIZE)}
TORSOS: dict[str, TorsoPart] = {
    "mlp": TorsoPart(MLP, _UNITS, takes="array"),
    "nature_cnn": TorsoPart(NatureCNN, _UNITS),
    "der_cnn": TorsoPart(DataEfficientCNN, _UNITS),
    "minatar_cnn": TorsoPart(MinAtarCNN, {**_UNITS, "channels": wholes(MAX_LAYERS, MAX_SIZE)}),
    "impala_cnn": TorsoPart(
        ImpalaCNN, {**_UNITS, "width": whole(1, 1024), "pool": either(whole(1, 1024), None)}
    ),
    "combined": TorsoPart(CombinedExtractor, {}, takes="dict"),
}
_CNNS: tuple[type[nn.Module], ...] = (
    SB3NatureCNN,
    *(part.make for part in TORSOS.values() if part.features_dim),
)


class _Extractor(BaseFeaturesExtractor):
    """A torso made for an observation space: the same layers under the same names."""

    takes: ClassVar[str]
    # An attribute, as torsos have it, in the place of the base's property.
    features_dim: int = 0

    def __init__(self, observation_space: spaces.Space[Any], **kwargs: Any) -> None:
        if self.takes == "image":
            shape = _image_shape(observation_space, type(self).__name__)
        else:
            shape = (get_flattened_obs_dim(observation_space),)
        # The torso's constructor: the base's wants to be told features_dim.
        super(BaseFeaturesExtractor, self).__init__(shape, **kwargs)
        self._observation_space, self._features_dim = observation_space, self.features_dim


def _image_shape(observation_space: spaces.Space[Any], torso: str) -> Sequence[int]:
    shape: Sequence[int] = observation_space.shape or ()
    if len(shape) != 3:
        raise UnsupportedSpaceError(
            f"torso {torso}: expected observations of (channels, height, width), found "
            f'{observation_space}. Use torso "mlp"'
        )
    if is_image_space(observation_space) and not is_image_space_channels_first(
        observation_space  # type: ignore[arg-type]
    ):
        raise UnsupportedSpaceError(
            f"torso {torso}: expected (channels, height, width), found channels last, {shape}: "
            "wrap the environment in stable_baselines3.common.vec_env.VecTransposeImage"
        )
    return shape


def _extractor(name: str, torso: TorsoPart) -> Extractor:
    made = torso.make
    if issubclass(made, BaseFeaturesExtractor):
        return made
    # Saved policies name an extractor by this module and its name in the table.
    attributes = {"__module__": __name__, "__doc__": made.__doc__}
    return type(name, (_Extractor, made), {**attributes, "takes": torso.takes})


EXTRACTORS: dict[str, Extractor] = {name: _extractor(name, TORSOS[name]) for name in TORSOS}


def __getattr__(name: str) -> Any:
    if name not in EXTRACTORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return EXTRACTORS[name]


def default_torso(observation_space: spaces.Space[Any]) -> str:
    """Chooses the torso that fits: a CNN for images and grids, by size, an MLP for the rest."""
    if isinstance(observation_space, spaces.Dict):
        return "combined"
    if isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 3:
        side = min(observation_space.shape[1:])
        if side >= NATURE_SIDE:
            return "nature_cnn"
        return "minatar_cnn" if side >= MINATAR_SIDE else "mlp"
    return "mlp"


def extractor_of(torso: str | Extractor) -> Extractor:
    """Returns the class that makes a torso, which is its name or that class."""
    return EXTRACTORS[torso] if isinstance(torso, str) else torso


def normalization_of(torso: str | Extractor, normalization: NormalizationName) -> dict[str, Any]:
    """Returns the argument that has a torso normalise its layers; none for one without layers.

    Raises:
        ConfigError: It cannot: it is another package's.
    """
    if normalization == "none" or torso is FlattenExtractor:
        return {}
    if torso in TORSOS and torso != "combined":
        return {"normalization": normalization}
    name = torso if isinstance(torso, str) else getattr(torso, "__name__", str(torso))
    ours = ", ".join(torso for torso in TORSOS if torso != "combined")
    raise ConfigError(
        f"normalization {normalization}: expected a torso of sndqn's ({ours}), found {name}: leave "
        "it out, or choose one of these"
    )


def hidden_after(torso: Torso) -> tuple[int, ...]:
    """Returns the default hidden layers after a torso: (64, 64), or none after a CNN."""
    if isinstance(torso, str):
        is_cnn = TORSOS[torso].features_dim > 0
    elif isinstance(torso, nn.Module):
        is_cnn = isinstance(torso, _CNNS)
    else:
        is_cnn = torso is SB3NatureCNN
    return () if is_cnn else (64, 64)
