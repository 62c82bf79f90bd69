"""Policies with spectral normalisation for Stable-Baselines3's DQN.

`DQN(SNMlpPolicy, env)`, or `DQN("SNMlpPolicy", env)` after `sndqn.register()`. Everything else is
Stable-Baselines3's own: saving, loading, parameters, optimisers, features extractors.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.dqn.policies import QNetwork as SB3QNetwork
from torch import nn

from sndqn.errors import ConfigError, UnsupportedSpaceError
from sndqn.networks import NetworkSpec, QNetwork, SpectralSettings, make_q_network
from sndqn.networks.extractors import impala_cnn, minatar_cnn, mlp, nature_cnn
from sndqn.networks.factory import ACTIVATIONS
from sndqn.networks.heads import HeadName
from sndqn.networks.initializers import InitializerName
from sndqn.networks.noisy import noisy_layers, remove_noise, reset_noise, without_noise
from sndqn.networks.q_network import ActionValues
from sndqn.optimizers import Adam
from sndqn.spectral import SpectralLayer

_CNN_EXTRACTORS: tuple[Callable[..., nn.Module], ...] = (
    SB3NatureCNN,
    nature_cnn,
    minatar_cnn,
    impala_cnn,
)


# Units of the torsos' own dense layers.
_DENSE: dict[Any, int] = {nature_cnn: 512, minatar_cnn: 128, impala_cnn: 256}


class SpectralPolicyMixin:
    """The spectral arguments of a policy, kept where Stable-Baselines3 saves and restores them.

    Args:
        *args: As Stable-Baselines3's policy.
        sn_layers: Which weight layers are normalised: "-2" (default), "-2,-3", "all", "none",
            "convs", layer names, or a list.
        sn_bound: The value σ is held to, 1 by default, or "initial".
        sn_mode: "normalize", "shrink" or "track".
        sn_conv_norm: "operator" or "kernel".
        sn_power_iterations: Steps of power iteration after each optimiser step.
        sn_grad_through_norm: Whether the gradient flows through σ.
        sn_scheduler: What tracked norms steer, "none" by default: see `sndqn.spectral.schedulers`.
        sn_scheduler_form: "product" or "layer".
        sn_scheduler_one_sided: Whether norms below the bound count as at the bound.
        **kwargs: As Stable-Baselines3's policy.
    """

    default_extractor: ClassVar[Callable[..., nn.Module]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.spectral_settings = SpectralSettings.from_arguments(kwargs)
        # Stable-Baselines3 gives these three by position or, on loading, by name.
        names = ("observation_space", "action_space", "lr_schedule", "net_arch", "activation_fn")
        kwargs.update(zip(names, args, strict=False))
        kwargs.setdefault("features_extractor_class", type(self).default_extractor)
        kwargs.setdefault("optimizer_class", Adam)
        extractor = kwargs["features_extractor_class"]
        self._check_space(kwargs["observation_space"], extractor)
        if kwargs.get("net_arch") is None and extractor in _CNN_EXTRACTORS:
            kwargs["net_arch"] = []
        super().__init__(**kwargs)

    def _keep_sigma_current(self, online: nn.Module, target: nn.Module) -> None:
        """Ties σ to the weights it belongs to, whoever moves them.

        The online network's is refined after each optimiser step.
        """
        # Makes the power iterations in place of `refine`, to the same end.
        self.replaced_refine: Callable[[], object] | None = None
        self._normalised = [m for m in online.modules() if isinstance(m, SpectralLayer)]
        for layer in self._normalised:
            layer.refined_outside = True
        self.optimizer: Any
        self._steering: Any = None
        scheduler = getattr(online, "scheduler", None)
        if scheduler is not None and scheduler.name != "div_out":
            found = self.optimizer
            if not (isinstance(found, Adam) and found.makes_own_steps):
                raise ConfigError(
                    f"sn_scheduler {scheduler.name}: is defined on Adam's plain step, found "
                    f"{type(found).__module__}.{type(found).__name__}, or flags of torch's Adam: "
                    "use sndqn.optimizers.Adam as optimizer_class, without flags"
                )
            self._steering = scheduler
        self._tie_optimizer()
        self._target = [m for m in target.modules() if isinstance(m, SpectralLayer)]

    def _tie_optimizer(self) -> None:
        self.optimizer.register_step_post_hook(self.after_optimizer_step)
        if self._steering is not None:
            self.optimizer.scheduler = self._steering

    def trust_sigma(self, trusts: bool) -> None:
        """Says whether networks in evaluation mode read the stored σ without a look at the weights.

        False by default, since Stable-Baselines3 gives no word of a soft update, nor does anybody
        else who moves weights. For an algorithm that keeps both networks' σ current, by
        `sndqn.algorithms.target_network.sync_target`.
        """
        for layer in (*self._normalised, *self._target):
            layer.trusts_sigma = trusts

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        self.replaced_refine = None  # it knows the original's tensors
        self._tie_optimizer()  # a copied one comes without its hooks and its scheduler

    def after_optimizer_step(self, *_: object) -> None:
        """Brings σ up to the new weights; the optimiser calls it."""
        (self.replaced_refine or self.refine)()

    def refine(self) -> None:
        """Makes the power iterations of one optimiser step."""
        for layer in self._normalised:
            layer.refine()

    def settle_sigma(self) -> None:
        """Has σ found anew after an optimiser step that moved the weights far."""
        for layer in self._normalised:
            layer.settle()

    def parameters_to_vector(self) -> np.ndarray:
        """Gives all parameters one after the other, however they lie in memory."""
        parameters: Any = self.parameters()  # type: ignore[attr-defined]
        return torch.cat([p.detach().flatten() for p in parameters]).cpu().numpy()

    @torch.no_grad()
    def load_from_vector(self, vector: np.ndarray) -> None:
        """Gives all parameters the values of such a vector, where they are, and σ with them.

        Raises:
            ConfigError: The vector has another length.
        """
        parameters: list[nn.Parameter] = list(self.parameters())  # type: ignore[attr-defined]
        sizes = [p.numel() for p in parameters]
        if np.shape(vector) != (sum(sizes),):
            raise ConfigError(
                f"load_from_vector: expected {sum(sizes)} numbers in a row, as "
                f"parameters_to_vector gives them, found an array of shape {np.shape(vector)}"
            )
        parts = torch.split(torch.as_tensor(vector), sizes)
        for parameter, values in zip(parameters, parts, strict=True):
            parameter.copy_(values.view(parameter.shape))
        for layer in (*self._normalised, *self._target):
            layer.reset_sigma()

    def _check_space(self, space: spaces.Space[Any], extractor: Callable[..., nn.Module]) -> None:
        name = type(self).__name__
        if isinstance(space, spaces.Dict) and extractor in (
            FlattenExtractor,
            mlp,
            *_CNN_EXTRACTORS,
        ):
            raise UnsupportedSpaceError(
                f"{name}: expected a Box or Discrete observation space, found a Dict: "
                "use SNMultiInputPolicy"
            )
        if not isinstance(space, spaces.Dict) and extractor is CombinedExtractor:
            raise UnsupportedSpaceError(
                f"{name}: expected a Dict observation space, found {space}: "
                "use SNMlpPolicy or SNCnnPolicy"
            )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        return {**data, **self.spectral_settings.as_arguments()}


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
