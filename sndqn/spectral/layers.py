"""Linear and convolution layers held under a spectral norm."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sndqn.errors import ConfigError
from sndqn.spectral.functional import LinearThroughNorm, Mode, NormOf
from sndqn.spectral.norms import LinearMap, Pair, TopVectors, convolution_map, matrix_map
from sndqn.spectral.spectral_layer import Bound, ConvNorm, SpectralLayer
from sndqn.spectral.torch_context import autocasts, transformed, without_autocast

# Of a convolution's input, in numbers. More vectors of a larger one cost too much.
_LARGE_INPUT = 2**12
# Of a linear layer. To follow as many vectors is to find σ exactly, in about a millisecond.
_FEW_INPUTS = 64


class SpectralLinear(SpectralLayer, nn.Linear):
    """A linear layer whose weight acts with a bounded spectral norm.

    Args:
        in_features: As in `torch.nn.Linear`.
        out_features: As in `torch.nn.Linear`.
        bias: As in `torch.nn.Linear`.
        bound: The value σ is held to; "initial" is the weight's own σ at construction.
        mode: "normalize" (W · bound / σ), "shrink" (only where σ exceeds the bound) or "track".
        n_power_iterations: Steps of power iteration in each training-mode forward pass.
        grad_through_norm: Whether the gradient flows through σ.
        device: As in `torch.nn.Linear`.
        dtype: As in `torch.nn.Linear`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        bound: Bound = 1.0,
        mode: Mode = "normalize",
        n_power_iterations: int = 1,
        grad_through_norm: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias, device=device, dtype=dtype)
        self._setup_spectral(bound, mode, n_power_iterations, grad_through_norm)

    def _linear_map(self, weight: Tensor) -> LinearMap:
        return matrix_map(weight)

    def _n_vectors(self) -> int:
        # Under SN, layers that widen, as IQN's embedding and C51's output do, train to ever more
        # singular values close to the largest: 8 vectors lag by up to 6 % there.
        if self.out_features <= self.in_features:
            return super()._n_vectors()
        return self.in_features if self.in_features <= _FEW_INPUTS else 16

    def forward(self, x: Tensor) -> Tensor:
        """Applies the normalised layer; x of shape (..., in), the result (..., out)."""
        top = self._top()
        if not self._differentiates_norm():
            z = F.linear(x, self.weight)
            if self.mode != "track":
                z = z * self.constraint.scale_of(top.sigma)
        elif self.weight.dtype == top.sigma.dtype and not (transformed() or autocasts(x.device)):
            # Copies: the buffers move in place at the next forward, maybe before this backward.
            u, v = top.u[0].clone(), top.v[0].clone()
            scale, rows = self.constraint.scale_of(top.sigma), x.reshape(-1, x.shape[-1])
            z = LinearThroughNorm.apply(rows, self.weight, u, v, scale, self.constraint)  # type: ignore[no-untyped-call]
            z = z.view(*x.shape[:-1], self.out_features)
        else:
            z = F.linear(x, self.weight) * self._scale_by_autograd(top)
        if self.bias is not None:
            z = z + self.bias.to(z.dtype)
        return self._finish(z, top.sigma)


class SpectralConv2d(SpectralLayer, nn.Conv2d):
    """A convolution held under a spectral norm: its operator's by default, or its kernel's.

    Args:
        *args: As in `torch.nn.Conv2d`.
        input_size: Height and width of the inputs; the operator's norm depends on them.
        conv_norm: "operator", the true norm at that input size (the paper's); or "kernel", torch's
            own number, of the kernel as a matrix (out, in · height · width), which is smaller.
        bound: The value σ is held to; "initial" is the weight's own σ at construction.
        mode: "normalize" (W · bound / σ), "shrink" (only where σ exceeds the bound) or "track".
        n_power_iterations: Steps of power iteration in each training-mode forward pass.
        grad_through_norm: Whether the gradient flows through σ.
        **kwargs: As in `torch.nn.Conv2d`.

    Raises:
        ConfigError: The operator's norm without `input_size`, or with padding other than zeros.
    """

    conv_norm: ConvNorm
    input_size: Pair | None

    def __init__(
        self,
        *args: Any,
        input_size: Pair | None = None,
        conv_norm: ConvNorm = "operator",
        bound: Bound = 1.0,
        mode: Mode = "normalize",
        n_power_iterations: int = 1,
        grad_through_norm: bool = True,
        **kwargs: Any,
    ) -> None:
        nn.Conv2d.__init__(self, *args, **kwargs)
        self._setup_convolution(input_size, conv_norm)
        self._setup_spectral(bound, mode, n_power_iterations, grad_through_norm)

    def _setup_convolution(self, input_size: Pair | None, conv_norm: ConvNorm) -> None:
        if conv_norm not in ("operator", "kernel"):
            raise ConfigError(f'conv_norm: expected "operator" or "kernel", found {conv_norm!r}')
        self.conv_norm = conv_norm
        self.input_size = None if input_size is None else (int(input_size[0]), int(input_size[1]))
        if conv_norm == "kernel":
            return
        if self.input_size is None:
            raise ConfigError(
                "a convolution's operator norm depends on its input size: pass input_size=(height, "
                'width), or conv_norm="kernel" for torch\'s flattened-kernel norm'
            )
        if self.padding_mode != "zeros":
            raise ConfigError(
                f'the operator norm is for zero padding, this layer pads by "{self.padding_mode}": '
                'pass conv_norm="kernel"'
            )

    def _geometry(self) -> dict[str, Any]:
        if self.padding == "valid":
            padding = (0, 0)
        elif self.padding == "same":
            reach = [self.dilation[i] * (self.kernel_size[i] - 1) for i in range(2)]
            if any(r % 2 for r in reach):
                raise ConfigError(
                    f'padding="same" with kernel {self.kernel_size} pads unevenly: pass numbers'
                )
            padding = (reach[0] // 2, reach[1] // 2)
        else:
            padding = cast(Pair, self.padding)
        return {
            "stride": self.stride,
            "padding": padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    def _linear_map(self, weight: Tensor) -> LinearMap:
        if self.conv_norm == "kernel":
            return matrix_map(weight)
        return convolution_map(weight, **self.norm_arguments())

    def _n_vectors(self) -> int:
        # Each costs two convolutions of one sample.
        few = self.conv_norm == "operator" and math.prod(self._map.in_shape) > _LARGE_INPUT
        return 2 if few else super()._n_vectors()

    def norm_arguments(self) -> dict[str, Any]:
        """Returns what `exact_norm` needs besides the weight: the operator's geometry."""
        if self.conv_norm == "kernel":
            return {}
        return {"input_size": self.input_size, **self._geometry()}

    def forward(self, x: Tensor) -> Tensor:
        """Applies the normalised layer; x of shape (batch, in, height, width)."""
        if self.conv_norm == "operator" and x.shape[-2:] != self.input_size:
            raise ConfigError(
                f"this layer is normalised for inputs of {self.input_size}, found "
                f"{tuple(x.shape[-2:])}: "
                'apply spectral_norm with that input_size, or with conv_norm="kernel"'
            )
        top = self._top()
        # A kernel is far smaller than what it puts out: here the weight is the one to scale.
        weight = self.weight
        if self.mode != "track":
            with without_autocast(x.device):
                weight = weight * self._differentiable_scale(top)
        return self._finish(self._conv_forward(x, weight, self.bias), top.sigma)

    def _differentiable_scale(self, top: TopVectors) -> Tensor:
        if not self._differentiates_norm():
            return self.constraint.scale_of(top.sigma)
        if transformed() or self.weight.dtype != top.sigma.dtype:
            return self._scale_by_autograd(top)
        # Copies, as the buffers move in place.
        u, v, sigma = top.u[0].clone(), top.v[0].clone(), top.sigma.clone()
        sigma = NormOf.apply(self.weight, u, v, sigma, self._map)  # type: ignore[no-untyped-call]
        return self.constraint.scale_of(sigma)
