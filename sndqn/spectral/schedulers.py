"""Spectral schedulers: what normalisation does to the steps of training, without constraining it.

Each is steered by a factor R of the tracked layers' norms, σ/bound of a layer, or max(σ/bound, 1)
where one-sided; of each layer by itself ("layer"), or multiplied over the tracked layers
("product"):

- DivOut: outputs are divided by R. "product" divides the network's, which in a network of ReLUs
  without biases is SN of all tracked layers; "layer" each layer's own, bias and all.
- DivGrad: gradients are divided by R, after clipping. "product" those of all parameters; "layer"
  each tracked weight's by its own.
- MulEps: Adam's ε is multiplied by R; parameters as for DivGrad.
- DivLR: the learning rate is divided by R; parameters as for DivGrad.

R is a constant to gradients. Under Adam the step is η m / (√v + ε). Gradients divided by an R that
changes slowly against Adam's memory leave m/R and v/R², and the step η m / (√v + R ε): DivGrad is
MulEps in that limit, and both vanish with ε. With ε = 1e-8, torch's default, they do next to
nothing; the paper's runs have ε from 1e-4 to 1e-2.

Source: Gogianu et al., ICML 2021 (PMLR 139:3734-3744). Its public code has DivGrad, by layer and
one-sided, and DivLR; the rest is reconstructed from the names and the algebra above.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.spectral.functional import Constraint, Mode
from sndqn.spectral.spectral_layer import SpectralLayer

SchedulerName = Literal["none", "div_out", "div_grad", "mul_eps", "div_lr"]
SchedulerForm = Literal["product", "layer"]


class SpectralScheduler:
    """A scheduler over the tracked layers of a network.

    Args:
        network: Its layers in mode "track" count.
        name: "div_out", "div_grad", "mul_eps" or "div_lr".
        form: "product" or "layer".
        one_sided: Whether factors below 1 count as 1.

    Raises:
        ConfigError: An unknown name or form, or a network without tracked layers.
    """

    def __init__(
        self,
        network: nn.Module,
        name: SchedulerName,
        form: SchedulerForm = "product",
        one_sided: bool = False,
    ) -> None:
        names = ("div_out", "div_grad", "mul_eps", "div_lr")
        if name not in names:
            raise ConfigError(f"scheduler: expected one of {', '.join(names)}, found {name!r}")
        if form not in ("product", "layer"):
            raise ConfigError(f'scheduler form: expected "product" or "layer", found {form!r}')
        layers = [m for m in network.modules() if isinstance(m, SpectralLayer)]
        self.layers = [layer for layer in layers if layer.mode == "track"]
        if not self.layers:
            raise ConfigError(
                f"scheduler {name}: expected layers to track, found none: select some, in mode "
                '"track"'
            )
        self.name, self.form, self.one_sided = name, form, one_sided
        if name == "div_out" and form == "layer":
            for layer in self.layers:
                layer.divides_output = self._mode

    @property
    def _mode(self) -> Mode:
        return "shrink" if self.one_sided else "normalize"

    def layer_factor(self, layer: SpectralLayer) -> Tensor:
        """Returns σ/bound of a layer, at least 1 where one-sided; a scalar tensor."""
        return Constraint(layer.bound, self._mode).scale_of(layer.sigma).reciprocal()

    def product(self) -> Tensor:
        """Returns the product of the tracked layers' factors, a scalar tensor."""
        return torch.stack([self.layer_factor(layer) for layer in self.layers]).prod()

    def factors(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Returns the factor R of each parameter, scalar tensors."""
        with torch.no_grad():
            if self.form == "product":
                return [self.product()] * len(parameters)
            own = {id(layer.weight): self.layer_factor(layer) for layer in self.layers}
            one = torch.ones_like(self.layers[0].bound)
            return [own.get(id(parameter), one) for parameter in parameters]

    def divide_output(self, outputs: Tensor) -> Tensor:
        """Divides a network's outputs by the product, where this is DivOut in that form."""
        if self.name != "div_out" or self.form != "product":
            return outputs
        return outputs / self.product().detach()
