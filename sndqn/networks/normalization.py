"""Layer and batch normalisation of hidden layers: after the weights, before the activation."""

from typing import Any, Literal, get_args

from torch import Tensor, nn

from sndqn.errors import ConfigError

NormalizationName = Literal["none", "layer", "batch"]


def activated(
    activation: nn.Module, units: int, normalization: NormalizationName, *, images: bool = False
) -> nn.Module:
    """Returns what follows a hidden layer: its activation, normalised if asked for.

    The two are one module, so that layers have the same names with normalisation and without.

    Args:
        activation: The activation.
        units: Outputs of the layer, or channels of a convolution.
        normalization: "none"; "layer": over all outputs of a sample, with a factor and an offset of
            each unit or channel (Ba et al., 2016, arXiv 1607.06450); "batch": see `BatchNorm`.
        images: Whether the layer is a convolution.

    Raises:
        ConfigError: Another name.
    """
    if normalization not in get_args(NormalizationName):
        names = ", ".join(get_args(NormalizationName))
        raise ConfigError(f"normalization: expected one of {names}, found {normalization!r}")
    if normalization == "none":
        return activation
    return nn.Sequential(normalized(units, normalization, images=images), activation)


def normalized(units: int, normalization: NormalizationName, *, images: bool = False) -> nn.Module:
    """Makes the normalisation of a layer's outputs; arguments as `activated`'s."""
    if normalization == "none":
        return nn.Identity()
    if normalization == "batch":
        return BatchNorm(units)
    # One group of all channels is layer normalisation of images of any size.
    return nn.GroupNorm(1, units) if images else nn.LayerNorm(units)


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of vectors (..., units) or images (batch, units, height, width).

    In training mode by the batch's mean and variance, in evaluation mode by running ones. Those are
    in buffers `running_mean` and `running_var`. Stable-Baselines3 copies buffers of such names to
    target networks, and no others: so there is no count of batches.

    Source: Ioffe and Szegedy, ICML 2015 (arXiv 1502.03167); momentum 0.1 and ε 1e-5 are torch's.
    """

    def __init__(self, units: int) -> None:
        super().__init__(units)
        self.num_batches_tracked = None

    def _check_input_dim(self, input: Tensor) -> None:
        """Takes any: `forward` brings them into shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        if x.ndim == 4:
            return super().forward(x)
        rows: Tensor = super().forward(x.reshape(-1, x.shape[-1]))
        return rows.view(x.shape)

    def _load_from_state_dict(self, *args: Any) -> None:
        # Past the class that would ask for the count.
        nn.Module._load_from_state_dict(self, *args)
