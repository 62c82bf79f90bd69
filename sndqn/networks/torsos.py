"""Torsos: from an observation, as a float tensor, to a vector of features.

Each has `features_dim`, the length of that vector. Layers are registered in forward order, which
is what layer selection counts by.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sndqn.errors import UnsupportedSpaceError
from sndqn.spectral.layers import WideLinear


class MLP(nn.Module):
    """Flattens an observation and passes it through hidden layers, if any.

    Args:
        input_shape: Shape of one observation.
        hidden: Widths of the hidden layers; none by default, as in Stable-Baselines3, where the
            head has them.
        activation_fn: Activation after each hidden layer.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        hidden: Sequence[int] = (),
        activation_fn: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        widths = [math.prod(input_shape), *hidden]
        self.features_dim = widths[-1]
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.Linear(n_in, n_out), activation_fn()]
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
        features_dim: Units of the last layer.
    """

    def __init__(self, input_shape: Sequence[int], features_dim: int = 512) -> None:
        super().__init__()
        if min(input_shape[1:]) < 36:
            raise UnsupportedSpaceError(
                f"the Nature CNN needs images of at least 36 x 36, found {tuple(input_shape)}: "
                "resize them, or choose another torso"
            )
        self.features_dim = features_dim
        self.cnn = nn.Sequential(
            nn.Conv2d(input_shape[0], 32, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.cnn.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.linear = nn.Sequential(
            WideLinear(flattened_size(self.cnn, input_shape), features_dim), nn.ReLU()
        )

    def forward(self, observation: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to (batch, features_dim)."""
        # Channels last: oneDNN and cuDNN take about half the time.
        images = observation.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.linear(self.cnn(images))
        return features


class MinAtarCNN(nn.Module):
    """Unpadded 3x3 convolutions and one hidden layer, for MinAtar's 10x10 grids.

    Args:
        input_shape: (channels, height, width).
        channels: Output channels of each convolution; one of 16 in Young and Tian
            (arXiv 1903.03176), up to four of 32 in the SN-DQN paper's sweeps.
        features_dim: Units of the last layer, 128 in both.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        channels: Sequence[int] = (16,),
        features_dim: int = 128,
    ) -> None:
        super().__init__()
        self.features_dim = features_dim
        widths = [input_shape[0], *channels]
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.Conv2d(n_in, n_out, kernel_size=3), nn.ReLU()]
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        self.linear = nn.Sequential(
            WideLinear(flattened_size(self.cnn, input_shape), features_dim), nn.ReLU()
        )

    def forward(self, observation: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to (batch, features_dim)."""
        features: Tensor = self.linear(self.cnn(observation))
        return features


def flattened_size(cnn: nn.Module, input_shape: Sequence[int]) -> int:
    """Counts the outputs of a convolution stack that ends flat."""
    with torch.no_grad():
        return int(cnn(torch.zeros(1, *input_shape)).shape[1])
