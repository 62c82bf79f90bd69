"""What is normalised and how, as plain values."""

from dataclasses import dataclass, fields
from typing import Any

from sndqn.errors import ConfigError
from sndqn.spectral.functional import Mode
from sndqn.spectral.schedulers import SchedulerForm, SchedulerName
from sndqn.spectral.selection import Selection, format_selection
from sndqn.spectral.spectral_layer import Bound, ConvNorm


@dataclass(frozen=True)
class SpectralSettings:
    """What is normalised and how.

    Attributes:
        layers: Selection of weight layers, see `sndqn.spectral.select_layers`.
        bound: The value σ is held to, or "initial".
        mode: "normalize", "shrink", or "track", which leaves the layers as they are.
        conv_norm: "operator" or "kernel".
        n_power_iterations: Steps of power iteration in each training-mode forward pass.
        grad_through_norm: Whether the gradient flows through σ.
        scheduler: What the norms of tracked layers steer: "none", "div_out", "div_grad",
            "mul_eps" or "div_lr"; see `sndqn.spectral.schedulers`.
        scheduler_form: "product" or "layer".
        scheduler_one_sided: Whether norms below the bound count as at the bound.
    """

    layers: Selection = "-2"
    bound: Bound = 1.0
    mode: Mode = "normalize"
    conv_norm: ConvNorm = "operator"
    n_power_iterations: int = 1
    grad_through_norm: bool = True
    scheduler: SchedulerName = "none"
    scheduler_form: SchedulerForm = "product"
    scheduler_one_sided: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", format_selection(self.layers))
        if self.scheduler != "none" and self.mode != "track":
            raise ConfigError(
                f"sn_scheduler {self.scheduler}: stands in the place of normalisation, and needs "
                f'sn_mode "track", found "{self.mode}". Type --sn-mode track'
            )

    def as_arguments(self) -> dict[str, Any]:
        """Gives the settings as the `sn_*` arguments of policies and `make_q_network`."""
        return {
            "sn_layers": self.layers,
            "sn_bound": self.bound,
            "sn_mode": self.mode,
            "sn_conv_norm": self.conv_norm,
            "sn_power_iterations": self.n_power_iterations,
            "sn_grad_through_norm": self.grad_through_norm,
            "sn_scheduler": self.scheduler,
            "sn_scheduler_form": self.scheduler_form,
            "sn_scheduler_one_sided": self.scheduler_one_sided,
        }

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> "SpectralSettings":
        """Takes the `sn_*` arguments out of others and makes the settings of them."""
        names = {f"sn_{f.name}": f.name for f in fields(cls)}
        names["sn_power_iterations"] = names.pop("sn_n_power_iterations")
        given = [name for name in arguments if name in names]
        return cls(**{names[name]: arguments.pop(name) for name in given})
