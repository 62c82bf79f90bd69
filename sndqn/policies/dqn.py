"""The policies for Stable-Baselines3's DQN, and for sndqn's algorithms."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.dqn.policies import QNetwork as SB3QNetwork
from torch import nn

from sndqn.errors import ConfigError
from sndqn.networks import NetworkSpec, QNetwork, make_q_network
from sndqn.networks.noisy import noisy_layers, remove_noise, reset_noise, without_noise
from sndqn.networks.q_network import ActionValues
from sndqn.policies.base import SpectralPolicyMixin
from sndqn.policies.eps_groups import groups_by_eps


class SNQNetwork(ActionValues, SB3QNetwork):
    """The factory's network behind the interface of Stable-Baselines3's."""

    def __init__(self, network: QNetwork, spec: NetworkSpec) -> None:
        BasePolicy.__init__(
            self,
            network.observation_space,
            network.action_space,
            features_extractor=network.features_extractor,
            normalize_images=network.normalize_images,
        )
        self.net_arch = list(spec.net_arch or ())
        self.activation_fn = spec.activation_fn
        self.features_dim = network.features_extractor.features_dim
        self.q_net = network.q_net
        self.scheduler = network.scheduler


class SNDQNPolicy(SpectralPolicyMixin, DQNPolicy):
    """A DQN policy whose Q-network comes from `sndqn.networks.make_q_network`.

    Args:
        *args: As Stable-Baselines3's `DQNPolicy`.
        spec: The network, as one value; by default that of the policy's class. Other arguments,
            also Stable-Baselines3's, change it.
        dueling: Whether value and advantages have streams of their own.
        noisy: Whether the head's layers are noisy. Only sndqn's algorithms draw the noise.
        head: "linear" (default), "categorical", "quantile" or "implicit_quantile"; the
            distributional algorithms set it.
        head_kwargs: Further arguments of the head; these algorithms set them too.
        normalization: "none" (default), "layer" or "batch": of hidden layers and convolutions.
        initializer: Initial weights, "torch" by default; see `sndqn.networks.initializers`.
        optimizer_eps_layers: ε of the optimiser for some layers, by selections as `sn_layers`:
            {"-2": 3.2e-4}; the others have that of `optimizer_kwargs`.
        **kwargs: As Stable-Baselines3's `DQNPolicy`, and the arguments of `SpectralPolicyMixin`.
    """

    default_spec: ClassVar[NetworkSpec] = NetworkSpec(FlattenExtractor)
    own_arguments: ClassVar[tuple[str, ...]] = (
        "spec",
        "dueling",
        "noisy",
        "head",
        "head_kwargs",
        "normalization",
        "initializer",
    )

    def __init__(
        self,
        *args: Any,
        optimizer_eps_layers: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self.optimizer_eps_layers = dict(optimizer_eps_layers or {})
        super().__init__(*args, **kwargs)

    @property
    def noisy(self) -> bool:
        """Whether the head's layers are noisy."""
        return self.spec.noisy

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if self.optimizer_eps_layers:
            groups = groups_by_eps(self.q_net, self.optimizer, self.optimizer_eps_layers)
            self.optimizer = self.optimizer_class(  # type: ignore[call-arg]
                groups, lr=lr_schedule(1), **self.optimizer_kwargs
            )
        self._keep_sigma_current(self.q_net, self.q_net_target)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        return {**data, "optimizer_eps_layers": self.optimizer_eps_layers}

    def share_torso(self, torso: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Puts another policy's torso, and an optimiser that knows both, in the place of its own.

        Args:
            torso: Of the online network; the target network copies it.
            optimizer: Of the torso's parameters and this head's.

        Raises:
            ConfigError: A spectral scheduler, which would have to be shared as well.
        """
        scheduler = self.spec.spectral.scheduler
        if scheduler != "none":
            raise ConfigError(
                "a shared torso: spectral schedulers steer one network's training, found "
                f"{scheduler}: leave sn_scheduler out"
            )
        self.q_net.features_extractor = torso  # type: ignore[assignment]
        self.q_net_target.load_state_dict(self.q_net.state_dict())
        self.optimizer = optimizer
        trusted = any(layer.trusts_sigma for layer in self._target)
        self._keep_sigma_current(self.q_net, self.q_net_target)
        self.trust_sigma(trusted)

    def reset_noise(self) -> None:
        """Draws new noise for the online network's noisy layers and the target's."""
        if self.noisy:
            reset_noise([*noisy_layers(self.q_net), *noisy_layers(self.q_net_target)])

    def remove_noise(self) -> None:
        """Sets the noise to zero, which leaves the mean weights."""
        if self.noisy:
            remove_noise(self.q_net)
            remove_noise(self.q_net_target)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Chooses actions by the mean weights; arguments as Stable-Baselines3's."""
        if not self.noisy:
            return super().predict(*args, **kwargs)
        with without_noise(self.q_net):
            return super().predict(*args, **kwargs)

    def make_q_net(self) -> SB3QNetwork:
        """Makes the online or the target network; the one hook Stable-Baselines3 needs."""
        network = make_q_network(
            self.observation_space,
            self.action_space,
            self.spec,
            normalize_images=self.normalize_images,
        )
        return SNQNetwork(network, self.spec).to(self.device)


class SNMlpPolicy(SNDQNPolicy):
    """For vectors: hidden layers of 64 and 64 units by default; -2 is the second of them."""


class SNCnnPolicy(SNDQNPolicy):
    """For images: the Nature CNN; -5 to -1 are its convolutions, the 512-unit layer, the output."""

    default_spec = NetworkSpec("nature_cnn")


class SNMultiInputPolicy(SNDQNPolicy):
    """For Dict observations: one extractor a key, then hidden layers of 64 and 64 units."""

    default_spec = NetworkSpec("combined")


POLICIES: dict[str, type[BasePolicy]] = {
    "SNMlpPolicy": SNMlpPolicy,
    "SNCnnPolicy": SNCnnPolicy,
    "SNMultiInputPolicy": SNMultiInputPolicy,
}
