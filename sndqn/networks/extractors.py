"""The torsos as features extractors: the classes that Stable-Baselines3's policies take.

Each is its torso, made for an observation space: the same layers under the same names.
"""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sndqn.networks.factory import TorsoName, torso_arguments
from sndqn.networks.torsos import MLP, ImpalaCNN, MinAtarCNN, NatureCNN


class _Extractor(BaseFeaturesExtractor):
    """Stands behind a torso for the base class, whose arguments no torso passes on."""

    # An attribute, as torsos have it, in the place of the base's property.
    features_dim: int = 0

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def _begin(
        self, name: TorsoName, space: spaces.Space[Any], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Gives the torso's arguments."""
        shape, arguments = torso_arguments(space, name, kwargs)
        return {"input_shape": shape, **arguments}

    def _end(self, space: spaces.Space[Any]) -> None:
        self._observation_space, self._features_dim = space, self.features_dim


class mlp(MLP, _Extractor):
    """A hidden layer of `features_dim` units, or none."""

    def __init__(self, observation_space: spaces.Space[Any], **kwargs: Any) -> None:
        super().__init__(**self._begin("mlp", observation_space, kwargs))
        self._end(observation_space)


class nature_cnn(NatureCNN, _Extractor):
    """sndqn's Nature CNN."""

    def __init__(self, observation_space: spaces.Space[Any], **kwargs: Any) -> None:
        super().__init__(**self._begin("nature_cnn", observation_space, kwargs))
        self._end(observation_space)


class minatar_cnn(MinAtarCNN, _Extractor):
    """The MinAtar CNN: `features_extractor_class=minatar_cnn`."""

    def __init__(self, observation_space: spaces.Space[Any], **kwargs: Any) -> None:
        super().__init__(**self._begin("minatar_cnn", observation_space, kwargs))
        self._end(observation_space)


class impala_cnn(ImpalaCNN, _Extractor):
    """The IMPALA ResNet: `features_extractor_class=impala_cnn`."""

    def __init__(self, observation_space: spaces.Space[Any], **kwargs: Any) -> None:
        super().__init__(**self._begin("impala_cnn", observation_space, kwargs))
        self._end(observation_space)
