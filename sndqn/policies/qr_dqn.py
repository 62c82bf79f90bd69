"""The policies for sb3-contrib's QRDQN, an optional package; `sndqn.contrib` names them."""

from collections.abc import Callable
from typing import ClassVar

from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from sndqn.errors import ConfigError
from sndqn.networks.factory import apply_settings
from sndqn.policies.base import SpectralPolicyMixin


class SNQRDQNPolicy(SpectralPolicyMixin, QRDQNPolicy):
    """sb3-contrib's QR-DQN policy with SN on the selected layers."""

    default_extractor: ClassVar[Callable[..., nn.Module]] = FlattenExtractor

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self._keep_sigma_current(self.quantile_net, self.quantile_net_target)

    def make_quantile_net(self) -> QuantileNetwork:
        """Makes the online or the target network and normalises it."""
        network = super().make_quantile_net().cpu()
        if self.spectral_settings.scheduler == "div_out":
            raise ConfigError(
                "sn_scheduler div_out: sb3-contrib's network does not divide its outputs: use "
                "sndqn.QRDQN"
            )
        apply_settings(network, self.observation_space, self.spectral_settings)
        return network.to(self.device)


class SNMlpPolicy(SNQRDQNPolicy):
    """For vectors."""


class SNCnnPolicy(SNQRDQNPolicy):
    """For images."""

    default_extractor = SB3NatureCNN


class SNMultiInputPolicy(SNQRDQNPolicy):
    """For Dict observations."""

    default_extractor = CombinedExtractor


POLICIES: dict[str, type[BasePolicy]] = {
    "SNMlpPolicy": SNMlpPolicy,
    "SNCnnPolicy": SNCnnPolicy,
    "SNMultiInputPolicy": SNMultiInputPolicy,
}
