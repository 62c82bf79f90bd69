"""The base of all policies with spectral normalisation: their arguments, and σ kept current."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from torch import nn

from sndqn.errors import ConfigError, UnsupportedSpaceError
from sndqn.networks import NetworkSpec
from sndqn.networks.extractors import TORSOS, Extractor, extractor_of
from sndqn.optimizers import Adam
from sndqn.spectral import SpectralLayer

# The arguments that Stable-Baselines3 gives by position or, on loading, by name.
_POSITIONS = ("observation_space", "action_space", "lr_schedule", "net_arch", "activation_fn")
# What it calls parts of a `NetworkSpec`.
_NAMES = {
    "features_extractor_class": "torso",
    "features_extractor_kwargs": "torso_kwargs",
    "net_arch": "net_arch",
    "activation_fn": "activation_fn",
}


class SpectralPolicyMixin:
    """A policy's description of its network, made of its arguments, and σ kept current.

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

    Attributes:
        spec: The network.
    """

    # What the network is unless arguments say otherwise.
    default_spec: ClassVar[NetworkSpec]
    # Arguments of the network that are not Stable-Baselines3's, beside `sn_*`.
    own_arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(zip(_POSITIONS, args, strict=False))
        kwargs.setdefault("optimizer_class", Adam)
        own = [n for n in kwargs if n.startswith("sn_") or n in self.own_arguments]
        self._own_arguments = {name: kwargs.pop(name) for name in own}
        given = {ours: kwargs[name] for name, ours in _NAMES.items() if name in kwargs}
        given.update(self._own_arguments)
        spec = given.pop("spec", None) or self.default_spec
        self.spec = spec.changed(**given).resolved(kwargs["observation_space"])
        kwargs.update(
            features_extractor_class=self._extractor(kwargs["observation_space"]),
            features_extractor_kwargs=dict(self.spec.torso_kwargs),
            net_arch=list(self.spec.net_arch or ()),
            activation_fn=self.spec.activation_fn,
        )
        super().__init__(**kwargs)

    def _keep_sigma_current(self, online: nn.Module, target: nn.Module) -> None:
        """Has the online network's σ refined after each optimiser step."""
        # Makes the power iterations in place of `refine`, to the same end.
        self.replaced_refine: Callable[[], object] | None = None
        self._normalised = [m for m in online.modules() if isinstance(m, SpectralLayer)]
        for layer in self._normalised:
            layer.iterates_in_forward = False
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
        """Sets whether networks in evaluation mode read the stored σ without a look at the weights.

        False by default: Stable-Baselines3 does not say when it makes a soft update, and other code
        may move weights too. An algorithm sets it that keeps both networks' σ current, by
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

    def converge_sigma(self) -> None:
        """Finds σ anew, after an optimiser step that moved the weights far."""
        for layer in self._normalised:
            layer.converge()

    def parameters_to_vector(self) -> np.ndarray:
        """Returns all parameters one after the other, whatever their memory format."""
        parameters: Any = self.parameters()  # type: ignore[attr-defined]
        return torch.cat([p.detach().flatten() for p in parameters]).cpu().numpy()

    @torch.no_grad()
    def load_from_vector(self, vector: np.ndarray) -> None:
        """Sets all parameters, where they are, to the values of such a vector, and σ with them.

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

    def _extractor(self, space: spaces.Space[Any]) -> Extractor:
        """Returns the class of the torso, if it takes such observations."""
        name, torso = type(self).__name__, self.spec.torso
        of_dicts = isinstance(space, spaces.Dict)
        if torso is None or isinstance(torso, nn.Module):
            raise ConfigError(
                f"{name}: makes its torso twice, for the online and the target network, found "
                f"{torso!r}: give a name or a features extractor class"
            )
        if isinstance(torso, str):
            wanted = TORSOS[torso].takes == "dict"
        else:  # of a class of one's own nothing is known
            wanted = of_dicts and torso not in (FlattenExtractor, SB3NatureCNN)
        if of_dicts and not wanted:
            raise UnsupportedSpaceError(
                f"{name}: expected a Box or Discrete observation space, found a Dict: "
                "use SNMultiInputPolicy"
            )
        if wanted and not of_dicts:
            raise UnsupportedSpaceError(
                f"{name}: expected a Dict observation space, found {space}: "
                "use SNMlpPolicy or SNCnnPolicy"
            )
        return extractor_of(torso)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        return {**data, **self._own_arguments}
