"""The Q-network: a torso and a head between observations and Q-values."""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn

from sndqn.spectral.schedulers import SpectralScheduler

Observation = Tensor | dict[str, Tensor]


class ActionValues:
    """What every network has: outputs for a loss to work on, and Q-values made of them.

    Attributes:
        features_extractor: The torso, and
        q_net: the head, see `sndqn.networks.heads`: by Stable-Baselines3's names for them, which
            stored weights have too.
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
