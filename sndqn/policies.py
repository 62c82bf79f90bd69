"""Policies with spectral normalisation for Stable-Baselines3's DQN.

`DQN(SNMlpPolicy, env)`, or `DQN("SNMlpPolicy", env)` after `sndqn.register()`. Everything else is
Stable-Baselines3's own: saving, loading, parameters, optimisers, features extractors.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.dqn.policies import QNetwork as SB3QNetwork
from torch import nn

from sndqn.errors import UnsupportedSpaceError
from sndqn.networks import NetworkSpec, QNetwork, SpectralSettings, make_q_network
from sndqn.networks.factory import ACTIVATIONS, make_torso
from sndqn.networks.heads import HeadName
from sndqn.optimizers import Adam
from sndqn.spectral import SpectralLayer
from sndqn.spectral.functional import Mode
from sndqn.spectral.layers import Bound, ConvNorm
from sndqn.spectral.selection import Selection


def nature_cnn(observation_space: spaces.Box, **kwargs: Any) -> nn.Module:
    """Makes sndqn's Nature CNN as a features extractor."""
    return make_torso(observation_space, "nature_cnn", **kwargs)


def minatar_cnn(observation_space: spaces.Box, **kwargs: Any) -> nn.Module:
    """Makes the MinAtar CNN as a features extractor: `features_extractor_class=minatar_cnn`."""
    return make_torso(observation_space, "minatar_cnn", **kwargs)


_CNN_EXTRACTORS: tuple[Callable[..., nn.Module], ...] = (SB3NatureCNN, nature_cnn, minatar_cnn)


class SpectralPolicyMixin:
    """The spectral arguments of a policy, kept where Stable-Baselines3 saves and restores them.

    Args:
        sn_layers: Which weight layers are normalised: "-2" (default), "-2,-3", "all", "none",
            "convs", layer names, or a list.
        sn_bound: The value σ is held to, 1 by default, or "initial".
        sn_mode: "normalize" or "shrink".
        sn_conv_norm: "operator" or "kernel".
        sn_power_iterations: Steps of power iteration after each optimiser step.
        sn_grad_through_norm: Whether the gradient flows through σ.
    """

    default_extractor: ClassVar[Callable[..., nn.Module]]

    def __init__(
        self,
        *args: Any,
        sn_layers: Selection = "-2",
        sn_bound: Bound = 1.0,
        sn_mode: Mode = "normalize",
        sn_conv_norm: ConvNorm = "operator",
        sn_power_iterations: int = 1,
        sn_grad_through_norm: bool = True,
        **kwargs: Any,
    ) -> None:
        self.spectral_settings = SpectralSettings(
            sn_layers, sn_bound, sn_mode, sn_conv_norm, sn_power_iterations, sn_grad_through_norm
        )
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
        self.compiled_refine: Callable[[], object] | None = None
        self._normalised = [m for m in online.modules() if isinstance(m, SpectralLayer)]
        for layer in self._normalised:
            layer.refined_outside = True
        self.optimizer.register_step_post_hook(self.after_optimizer_step)  # type: ignore[attr-defined]
        self._target = [m for m in target.modules() if isinstance(m, SpectralLayer)]
        self.set_live_target(True)

    def set_live_target(self, live: bool) -> None:
        """Says whether the target network computes σ at each use, or is given it at each sync.

        Live by default, since Stable-Baselines3 gives no word of a soft update; an algorithm that
        syncs by `sndqn.algorithms.base.sync_target` spares the cost.
        """
        for layer in self._target:
            layer.live = live

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        self.compiled_refine = None  # it knows the original's tensors
        # A copied optimiser comes without its hooks.
        self.optimizer.register_step_post_hook(self.after_optimizer_step)  # type: ignore[attr-defined]

    def after_optimizer_step(self, *_: object) -> None:
        """Brings σ up to the new weights; the optimiser calls it."""
        (self.compiled_refine or self.refine)()

    def refine(self) -> None:
        """Makes the power iterations of one optimiser step."""
        for layer, twin in zip(self._normalised, self._target, strict=True):
            layer.refine()
            if twin.live:  # as the twin will: equal to the bit after a hard update
                layer.refresh_sigma()

    def _check_space(self, space: spaces.Space[Any], extractor: Callable[..., nn.Module]) -> None:
        name = type(self).__name__
        if isinstance(space, spaces.Dict) and extractor in (FlattenExtractor, *_CNN_EXTRACTORS):
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


class SNQNetwork(SB3QNetwork):
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
        self.q_net = network.q_net  # type: ignore[assignment]


class SNDQNPolicy(SpectralPolicyMixin, DQNPolicy):
    """A DQN policy whose Q-network comes from `sndqn.networks.make_q_network`.

    Args:
        *args: As Stable-Baselines3's `DQNPolicy`.
        head: "linear" or "dueling".
        **kwargs: As Stable-Baselines3's `DQNPolicy`, and the arguments of `SpectralPolicyMixin`.
    """

    default_extractor: ClassVar[Callable[..., nn.Module]] = FlattenExtractor

    def __init__(self, *args: Any, head: HeadName = "linear", **kwargs: Any) -> None:
        self.head: HeadName = head
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self._keep_sigma_current(self.q_net, self.q_net_target)

    def make_q_net(self) -> SB3QNetwork:
        """Makes the online or the target network; the one hook Stable-Baselines3 needs."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        network = make_q_network(
            self.observation_space,
            self.action_space,
            torso=arguments["features_extractor"],
            head=self.head,
            net_arch=self.net_arch,
            activation_fn=self.activation_fn,
            normalize_images=self.normalize_images,
            **self.spectral_settings.as_arguments(),
        )
        return SNQNetwork(network, **arguments).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "head": self.head}


class SNMlpPolicy(SNDQNPolicy):
    """For vectors: hidden layers of 64 and 64 units by default; -2 is the second of them."""


class SNCnnPolicy(SNDQNPolicy):
    """For images: the Nature CNN; -5 to -1 are its convolutions, the 512-unit layer, the output."""

    # A function, so that it stays one where a class would take it for a method.
    default_extractor = staticmethod(nature_cnn)


class SNMultiInputPolicy(SNDQNPolicy):
    """For Dict observations: one extractor a key, then hidden layers of 64 and 64 units."""

    default_extractor = CombinedExtractor


_EXTRACTORS: dict[str, Callable[..., nn.Module]] = {
    "mlp": FlattenExtractor,
    "nature_cnn": nature_cnn,
    "minatar_cnn": minatar_cnn,
    "combined": CombinedExtractor,
}


def policy_arguments(spec: NetworkSpec) -> dict[str, Any]:
    """Gives the `policy_kwargs` by which `SNDQNPolicy` builds the network of a spec."""
    return {
        "features_extractor_class": _EXTRACTORS[spec.torso],
        "features_extractor_kwargs": dict(spec.torso_kwargs),
        "head": spec.head,
        "net_arch": None if spec.net_arch is None else list(spec.net_arch),
        "activation_fn": ACTIVATIONS[spec.activation],
        **spec.spectral.as_arguments(),
    }


POLICIES: dict[str, type[BasePolicy]] = {
    "SNMlpPolicy": SNMlpPolicy,
    "SNCnnPolicy": SNCnnPolicy,
    "SNMultiInputPolicy": SNMultiInputPolicy,
}


def register() -> None:
    """Makes the policies known by name to Stable-Baselines3's DQN and sb3-contrib's QRDQN.

    Changes the two classes' tables of names and nothing else; calling it again changes nothing.
    """
    from stable_baselines3 import DQN

    DQN.policy_aliases.update(POLICIES)
    try:
        from sb3_contrib import QRDQN
    except ImportError:
        return
    from sndqn.contrib import POLICIES as QUANTILE_POLICIES

    QRDQN.policy_aliases.update(QUANTILE_POLICIES)
