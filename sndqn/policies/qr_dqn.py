"""The policies for sb3-contrib's QRDQN, an optional package; `sndqn.contrib` names them."""

from typing import ClassVar

from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from stable_baselines3.common.type_aliases import Schedule

from sndqn.errors import ConfigError
from sndqn.networks import NetworkSpec
from sndqn.networks.factory import apply_settings
from sndqn.policies.base import SpectralPolicyMixin


class SNQRDQNPolicy(SpectralPolicyMixin, QRDQNPolicy):
    """sb3-contrib's QR-DQN policy with SN on the selected layers."""

    default_spec: ClassVar[NetworkSpec] = NetworkSpec(FlattenExtractor)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self._keep_sigma_current(self.quantile_net, self.quantile_net_target)

    def make_quantile_net(self) -> QuantileNetwork:
        """Makes the online or the target network and normalises it."""
        network = super().make_quantile_net().cpu()
        if self.spec.spectral.scheduler == "div_out":
            raise ConfigError(
                "sn_scheduler div_out: sb3-contrib's network does not divide its outputs: use "
                "sndqn.QRDQN"
            )
        apply_settings(network, self.observation_space, self.spec.spectral)
        return network.to(self.device)


class SNMlpPolicy(SNQRDQNPolicy):
    """For vectors."""


class SNCnnPolicy(SNQRDQNPolicy):
    """For images."""

    default_spec = NetworkSpec(SB3NatureCNN)


class SNMultiInputPolicy(SNQRDQNPolicy):
    """For Dict observations."""

    default_spec = NetworkSpec("combined")


POLICIES: dict[str, type[BasePolicy]] = {
    "SNMlpPolicy": SNMlpPolicy,
    "SNCnnPolicy": SNCnnPolicy,
    "SNMultiInputPolicy": SNMultiInputPolicy,
}
