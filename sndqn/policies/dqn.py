"""The policies for Stable-Baselines3's DQN, and for sndqn's algorithms."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.dqn.policies import QNetwork as SB3QNetwork
from torch import nn

from sndqn.errors import ConfigError
from sndqn.networks import NetworkSpec, QNetwork, make_q_network
from sndqn.networks.extractors import impala_cnn, minatar_cnn, mlp, nature_cnn
from sndqn.networks.factory import ACTIVATIONS
from sndqn.networks.heads import HeadName
from sndqn.networks.initializers import InitializerName
from sndqn.networks.noisy import noisy_layers, remove_noise, reset_noise, without_noise
from sndqn.networks.q_network import ActionValues
from sndqn.policies.base import SpectralPolicyMixin

# Units of the torsos' own dense layers.
_DENSE: dict[Any, int] = {nature_cnn: 512, minatar_cnn: 128, impala_cnn: 256}


class SNQNetwork(ActionValues, SB3QNetwork):
    """The factory's network behind the interface of Stable-Baselines3's."""

    def __init__(self, network: QNetwork, **arguments: Any) -> None:
        BasePolicy.__init__(
            self,
            network.observation_space,
            network.action_space,
            features_extractor=network.features_extractor,
            normalize_images=network.normalize_images,
        )
        self.net_arch = arguments["net_arch"]
        self.activation_fn = arguments["activation_fn"]
        self.features_dim = arguments["features_dim"]
        self.q_net = network.q_net
        self.scheduler = network.scheduler


class SNDQNPolicy(SpectralPolicyMixin, DQNPolicy):
    """A DQN policy whose Q-network comes from `sndqn.networks.make_q_network`.

    Args:
        *args: As Stable-Baselines3's `DQNPolicy`.
        dueling: Whether value and advantages have streams of their own.
        noisy: Whether the head's layers are noisy. Only sndqn's algorithms draw the noise.
        head: "linear" (default), "categorical", "quantile" or "implicit_quantile"; the
            distributional algorithms set it.
        head_kwargs: Further arguments of the head; these algorithms set them too.
        initializer: Initial weights, "torch" by default; see `sndqn.networks.initializers`.
        **kwargs: As Stable-Baselines3's `DQNPolicy`, and the arguments of `SpectralPolicyMixin`.
    """

    default_extractor: ClassVar[Callable[..., nn.Module]] = FlattenExtractor

    def __init__(
        self,
        *args: Any,
        dueling: bool = False,
        noisy: bool = False,
        head: HeadName = "linear",
        head_kwargs: Mapping[str, Any] | None = None,
        initializer: InitializerName = "torch",
        **kwargs: Any,
    ) -> None:
        self.dueling = dueling
        self.noisy = noisy
        self.head: HeadName = head
        self.head_kwargs = dict(head_kwargs or {})
        self.initializer: InitializerName = initializer
        if head == "implicit_quantile":
            self._leave_hidden_layer_to_head(kwargs)
        super().__init__(*args, **kwargs)

    def _leave_hidden_layer_to_head(self, kwargs: dict[str, Any]) -> None:
        """Moves a CNN's dense layer behind the embedding of fractions, unless sizes are given.

        So it is in IQN's paper; the layers and their indices are then those of the other networks.
        """
        extractor = kwargs.get("features_extractor_class", type(self).default_extractor)
        given = kwargs.get("features_extractor_kwargs") or {}
        if extractor in _DENSE and kwargs.get("net_arch") is None and "features_dim" not in given:
            kwargs["features_extractor_kwargs"] = {**given, "features_dim": 0}
            kwargs["net_arch"] = [_DENSE[extractor]]

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self._keep_sigma_current(self.q_net, self.q_net_target)

    def share_torso(self, torso: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Puts another policy's torso, and an optimiser that knows both, in the place of its own.

        Args:
            torso: Of the online network; the target network copies it.
            optimizer: Of the torso's parameters and this head's.

        Raises:
            ConfigError: A spectral scheduler, which would have to be shared as well.
        """
        if self.spectral_settings.scheduler != "none":
            raise ConfigError(
                "a shared torso: spectral schedulers steer one network's training, found "
                f"{self.spectral_settings.scheduler}: leave sn_scheduler out"
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
        """Leaves the mean weights, as whoever does not train expects them."""
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
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        network = make_q_network(
            self.observation_space,
            self.action_space,
            torso=arguments["features_extractor"],
            head=self.head,
            head_kwargs={"dueling": self.dueling, "noisy": self.noisy, **self.head_kwargs},
            net_arch=self.net_arch,
            activation_fn=self.activation_fn,
            initializer=self.initializer,
            normalize_images=self.normalize_images,
            **self.spectral_settings.as_arguments(),
        )
        return SNQNetwork(network, **arguments).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        names = ("dueling", "noisy", "head", "head_kwargs", "initializer")
        own = {name: getattr(self, name) for name in names}
        return {**super()._get_constructor_parameters(), **own}


class SNMlpPolicy(SNDQNPolicy):
    """For vectors: hidden layers of 64 and 64 units by default; -2 is the second of them."""


class SNCnnPolicy(SNDQNPolicy):
    """For images: the Nature CNN; -5 to -1 are its convolutions, the 512-unit layer, the output."""

    default_extractor = nature_cnn


class SNMultiInputPolicy(SNDQNPolicy):
    """For Dict observations: one extractor a key, then hidden layers of 64 and 64 units."""

    default_extractor = CombinedExtractor


_EXTRACTORS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "nature_cnn": nature_cnn,
    "minatar_cnn": minatar_cnn,
    "impala_cnn": impala_cnn,
    "combined": CombinedExtractor,
}


def policy_arguments(spec: NetworkSpec) -> dict[str, Any]:
    """Gives the `policy_kwargs` by which `SNDQNPolicy` builds the network of a spec."""
    return {
        "features_extractor_class": _EXTRACTORS[spec.torso],
        "features_extractor_kwargs": dict(spec.torso_kwargs),
        "head": spec.head,
        "dueling": spec.dueling,
        "noisy": spec.noisy,
        "head_kwargs": dict(spec.head_kwargs),
        "initializer": spec.initializer,
        "net_arch": None if spec.net_arch is None else list(spec.net_arch),
        "activation_fn": ACTIVATIONS[spec.activation],
        **spec.spectral.as_arguments(),
    }


POLICIES: dict[str, type[BasePolicy]] = {
    "SNMlpPolicy": SNMlpPolicy,
    "SNCnnPolicy": SNCnnPolicy,
    "SNMultiInputPolicy": SNMultiInputPolicy,
}
