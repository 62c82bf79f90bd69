"""Torsos: from an observation, as a float tensor, to a vector of features.

Each has `features_dim`, the length of that vector. Layers are registered in forward order, which
is what layer selection counts by. A CNN made with `features_dim=0` ends with its flattened
convolutions, for heads with hidden layers of their own.
"""

import itertools
import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sndqn.errors import ConfigError, UnsupportedSpaceError
from sndqn.networks.normalization import NormalizationName, activated, normalized

# The smallest images that a torso takes.
NATURE_SIDE = 36
MINATAR_SIDE = 3
DER_SIDE = 25


class MLP(nn.Module):
    """Flattens an observation and passes it through hidden layers, if any.

    Args:
        input_shape: Shape of one observation.
        hidden: Widths of the hidden layers; none by default, as in Stable-Baselines3, where the
            head has them.
        activation_fn: Activation after each hidden layer.
        features_dim: Units of one more hidden layer, the last; 0 leaves it out.
        normalization: "none", "layer" or "batch": of the hidden layers, see
            `sndqn.networks.normalization`.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        hidden: Sequence[int] = (),
        activation_fn: type[nn.Module] = nn.ReLU,
        features_dim: int = 0,
        normalization: NormalizationName = "none",
    ) -> None:
        super().__init__()
        widths = [math.prod(input_shape), *hidden, *([features_dim] if features_dim else [])]
        self.features_dim = widths[-1]
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.Linear(n_in, n_out), activated(activation_fn(), n_out, normalization)]
        self.layers = nn.Sequential(*layers)

    def forward(self, observation: Tensor) -> Tensor:
        """Maps (batch, *input_shape) to (batch, features_dim)."""
        features: Tensor = self.layers(observation)
        return features


class NatureCNN(nn.Module):
    """The network of Mnih et al. (Nature 2015): three convolutions and a layer of 512 units.

    Its parameters bear the names of Stable-Baselines3's, so weights pass between the two.

    Args:
        input_shape: (channels, height, width), at least 36 x 36.
        features_dim: Units of the last layer; 0 leaves it out.
        normalization: "none", "layer" or "batch": of the convolutions and the last layer, see
            `sndqn.networks.normalization`.

    Raises:
        UnsupportedSpaceError: Smaller images.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        features_dim: int = 512,
        normalization: NormalizationName = "none",
    ) -> None:
        super().__init__()
        _require_side("the Nature CNN", NATURE_SIDE, input_shape)
        self.cnn = nn.Sequential(
            nn.Conv2d(input_shape[0], 32, kernel_size=8, stride=4),
            activated(nn.ReLU(), 32, normalization, images=True),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            activated(nn.ReLU(), 64, normalization, images=True),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),
            activated(nn.ReLU(), 64, normalization, images=True),
            nn.Flatten(),
        )
        self.cnn.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        n_flat = flattened_size(self.cnn, input_shape)
        self.features_dim = features_dim or n_flat
        self.linear = dense_layer(n_flat, features_dim, normalization)

    def forward(self, observation: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to (batch, features_dim)."""
        # Channels last: convolutions take about half the time.
        images = observation.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.linear(self.cnn(images))
        return features


class DataEfficientCNN(nn.Module):
    """The small network of data-efficient Rainbow: two 5x5 convolutions, of stride 5.

    Args:
        input_shape: (channels, height, width), at least 25 x 25.
        features_dim: Units of the last layer; 0 leaves it out.
        normalization: "none", "layer" or "batch": of the convolutions and the last layer, see
            `sndqn.networks.normalization`.

    Raises:
        UnsupportedSpaceError: Smaller images.

    Source: van Hasselt et al., NeurIPS 2019 (arXiv 1906.05243), in the sizes of Kaixhin/Rainbow.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        features_dim: int = 256,
        normalization: NormalizationName = "none",
    ) -> None:
        super().__init__()
        _require_side("the data-efficient CNN", DER_SIDE, input_shape)
        self.cnn = nn.Sequential(
            nn.Conv2d(input_shape[0], 32, kernel_size=5, stride=5),
            activated(nn.ReLU(), 32, normalization, images=True),
            nn.Conv2d(32, 64, kernel_size=5, stride=5),
            activated(nn.ReLU(), 64, normalization, images=True),
            nn.Flatten(),
        )
        self.cnn.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        n_flat = flattened_size(self.cnn, input_shape)
        self.features_dim = features_dim or n_flat
        self.linear = dense_layer(n_flat, features_dim, normalization)

    def forward(self, observation: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to (batch, features_dim)."""
        # Channels last, as in NatureCNN.
        images = observation.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.linear(self.cnn(images))
        return features


class MinAtarCNN(nn.Module):
    """Unpadded 3x3 convolutions and one hidden layer, for MinAtar's 10x10 grids.

    Args:
        input_shape: (channels, height, width).
        channels: Output channels of each convolution; one of 16 in Young and Tian
            (arXiv 1903.03176), up to four of 32 in the SN-DQN paper's sweeps.
        features_dim: Units of the last layer, 128 in both; 0 leaves it out.
        normalization: "none", "layer" or "batch": of the convolutions and the last layer, see
            `sndqn.networks.normalization`.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        channels: Sequence[int] = (16,),
        features_dim: int = 128,
        normalization: NormalizationName = "none",
    ) -> None:
        super().__init__()
        widths = [input_shape[0], *channels]
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(widths):
            rectified = activated(nn.ReLU(), n_out, normalization, images=True)
            layers += [nn.Conv2d(n_in, n_out, kernel_size=3), rectified]
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        n_flat = flattened_size(self.cnn, input_shape)
        self.features_dim = features_dim or n_flat
        self.linear = dense_layer(n_flat, features_dim, normalization)

    def forward(self, observation: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to (batch, features_dim)."""
        features: Tensor = self.linear(self.cnn(observation))
        return features


class ImpalaCNN(nn.Module):
    """The deep residual network of IMPALA: 15 convolutions in three stages, and a dense layer.

    Each stage halves height and width, rounding up, so that images and grids of any size will do.
    The names of the convolutions in residual blocks have the component `residual`, those of the
    stages' first ones `entry`.

    Args:
        input_shape: (channels, height, width).
        width: Factor on the stages' (16, 32, 32) channels.
        features_dim: Units of the last layer; 0 leaves it out.
        pool: Height and width the last stage's output is max-pooled to, whatever they are; None
            leaves them. Beyond The Rainbow has 6, with width 2.
        normalization: "none", "layer" or "batch": of the convolutions and the last layer, see
            `sndqn.networks.normalization`.

    Raises:
        ConfigError: A width or pool below 1.

    Source: Espeholt et al., ICML 2018 (arXiv 1802.01561), figure 3, without its LSTM; the pooling
    is from Clark et al., Beyond The Rainbow (arXiv 2411.03820).
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        width: int = 1,
        features_dim: int = 256,
        pool: int | None = None,
        normalization: NormalizationName = "none",
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("pool", 1 if pool is None else pool)):
            if value < 1:
                raise ConfigError(f"{name}: expected 1 or more, found {value}")
        channels = [input_shape[0], 16 * width, 32 * width, 32 * width]
        pairs = itertools.pairwise(channels)
        self.stages = nn.Sequential(*(_stage(*pair, normalization) for pair in pairs))
        self.stages.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        pooling = [] if pool is None else [nn.AdaptiveMaxPool2d(pool)]
        self.flatten = nn.Sequential(nn.ReLU(), *pooling, nn.Flatten())
        n_flat = flattened_size(nn.Sequential(self.stages, self.flatten), input_shape)
        self.features_dim = features_dim or n_flat
        self.linear = dense_layer(n_flat, features_dim, normalization)

    def forward(self, observation: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to (batch, features_dim)."""
        # Channels last, as in NatureCNN.
        images = observation.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.linear(self.flatten(self.stages(images)))
        return features


class _ResidualBlock(nn.Sequential):
    """x + conv(relu(conv(relu(x)))), on maps of so many channels."""

    def __init__(self, channels: int, normalization: NormalizationName) -> None:
        # Neither ReLU works in place: the first one's input is the skip connection.
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            activated(nn.ReLU(), channels, normalization, images=True),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            normalized(channels, normalization, images=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape, (batch, channels, height, width)."""
        change: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + change


def _stage(n_in: int, n_out: int, normalization: NormalizationName) -> nn.Sequential:
    """Makes a stage of `ImpalaCNN`, which halves height and width."""
    blocks = (_ResidualBlock(n_out, normalization) for _ in range(2))
    return nn.Sequential(
        OrderedDict(
            entry=nn.Conv2d(n_in, n_out, kernel_size=3, padding=1),
            norm=normalized(n_out, normalization, images=True),
            pool=nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            residual=nn.Sequential(*blocks),
        )
    )


def _require_side(torso: str, side: int, input_shape: Sequence[int]) -> None:
    """Refuses images that are smaller than a torso takes."""
    if min(input_shape[1:]) < side:
        raise UnsupportedSpaceError(
            f"{torso} needs images of at least {side} x {side}, found "
            f"{tuple(input_shape)}: resize them, or choose another torso"
        )


def dense_layer(
    n_flat: int, features_dim: int, normalization: NormalizationName = "none"
) -> nn.Module:
    """Makes the layer after flattened convolutions; the identity for no units."""
    if features_dim == 0:
        return nn.Identity()
    rectified = activated(nn.ReLU(), features_dim, normalization)
    return nn.Sequential(nn.Linear(n_flat, features_dim), rectified)


def flattened_size(cnn: nn.Module, input_shape: Sequence[int]) -> int:
    """Counts the outputs of a convolution stack that ends flat."""
    cnn.eval()  # or its batch normalisation would count the zeros
    with torch.no_grad():
        size = int(cnn(torch.zeros(1, *input_shape)).shape[1])
    cnn.train()
    return size
