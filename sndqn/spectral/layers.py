"""Linear and convolution layers held under a spectral norm, and the functions that make them.

A normalised layer is a layer: `weight` stays an ordinary parameter with its ordinary name. A linear
layer scales its output instead of its weight, (W/σ) x = (W x)/σ, which is exact and spares several
passes over the largest matrix of a network. What the power iteration knows lives in buffers named
`running_*`, updated in place: Stable-Baselines3 copies buffers of that name to its target networks
at each hard update, and no others.

Source: Miyato et al., ICLR 2018 (arXiv 1802.05957); Gogianu et al., ICML 2021 (PMLR 139:3734-3744).
"""

import math
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.spectral.functional import (
    Hold,
    LinearThroughNorm,
    Mode,
    NormOf,
    convolution_beside,
    linear_through_norm,
    wide_linear,
)
from sndqn.spectral.norms import (
    LinearMap,
    Pair,
    certified_norm,
    convolution_map,
    exact_norm,
    matrix_map,
    top_singular_vectors,
)
from sndqn.spectral.subspace import TINY, as_rows, finite, from_rows, orthonormal, ritz

ConvNorm = Literal["operator", "kernel"]
Bound = float | Literal["initial"]

# Of a matrix's numbers, or of a convolution's input's; a hidden layer of 64 x 64 has as many.
_LARGE = 2**12

_RUNNING = ("running_u", "running_v", "running_sigma")
SETTINGS = (
    "mode",
    "n_power_iterations",
    "grad_through_norm",
    "bound_is_initial",
    "refined_outside",
    "begins_beside",
    "live",
    "divides_output",
)


class SpectralLayer(nn.Module):
    """What the normalised layers share: the power iteration, the scale, and their state.

    In training mode each forward pass refines σ by `n_power_iterations` steps of power iteration;
    in evaluation mode it reads the stored σ and changes nothing. So a measurement, a second
    forward pass of Double DQN or an acting step belongs in evaluation mode. Whoever steps the
    optimiser can do better: set `refined_outside`, and call `refine()` after each step. Then σ
    belongs to the new weight at once, and the iteration is made once however many passes there are.

    The iteration carries a few vectors at once (subspace iteration with Rayleigh-Ritz: Golub and
    Van Loan, Matrix Computations, 8.2). A single one lags wherever training makes another singular
    value the largest, by up to 23 % in σ on small networks; a runner-up that is followed already
    takes over within the step.

    Attributes:
        running_u: Left vectors, orthonormal, (n, *shape of one output); the first is the top one.
        running_v: Right vectors, (n, *shape of one input); the first is the top one, of length 1.
        running_sigma: Estimate of the raw weight's σ, a scalar tensor.
        bound: The value σ is held to, a scalar tensor.
        mode: "normalize" scales to the bound; "shrink" only scales down to it; "track" follows σ
            and leaves the layer as it is.
        n_power_iterations: Steps of power iteration in each training-mode forward pass.
        grad_through_norm: Whether gradients see that σ depends on the weight.
        refined_outside: Whether forward passes leave the iteration to someone else's `refine()`;
            False by default.
        begins_beside: Whether a training-mode forward pass multiplies the right vectors along with
            its batch, for `refine()` to begin with; False by default. Compiled, that is one product
            instead of two; layers too small to gain by it do not. The vectors then meet the weight
            from before the gradient step; σ is read off the one after it. For whoever calls
            `refine()` once after each such pass.
        live: Whether evaluation mode computes σ from the stored u for the weight as it is, instead
            of reading the stored σ; False by default. For a network whose weights somebody else
            moves, as Stable-Baselines3 moves a target network's.
        divides_output: A tracked layer's whole output, bias and all, is scaled as this mode would
            scale the weight, by a constant to gradients: the scheduler DivOut. None by default.
    """

    weight: Tensor
    running_u: Tensor
    running_v: Tensor
    running_sigma: Tensor
    bound: Tensor
    mode: Mode
    n_power_iterations: int
    grad_through_norm: bool
    bound_is_initial: bool
    refined_outside: bool
    begins_beside: bool
    live: bool
    divides_output: Mode | None

    # Vectors followed at once. Over 600 to 2400 steps of DQN on CartPole the 64 x 64 hidden layer's
    # σ was underestimated at worst by 2.9 to 23 % with 1, 2.7 to 7.3 % with 4, 0.04 to 1 % with 8
    # (from low to high learning rates).
    n_vectors: ClassVar[int] = 8

    def _linear_map(self) -> LinearMap:
        """Gives the layer without its bias as a linear map of one input to one output."""
        raise NotImplementedError

    def norm_arguments(self) -> dict[str, Any]:
        """Gives what `exact_norm` needs besides the weight."""
        return {}

    def _setup_spectral(
        self, bound: Bound, mode: Mode, n_power_iterations: int, grad_through_norm: bool
    ) -> None:
        if bound != "initial" and not (isinstance(bound, int | float) and 0 < bound < float("inf")):
            raise ConfigError(f'bound: expected a positive number or "initial", found {bound!r}')
        if mode not in ("normalize", "shrink", "track"):
            raise ConfigError(f'mode: expected "normalize", "shrink" or "track", found {mode!r}')
        if n_power_iterations < 1:
            raise ConfigError(f"n_power_iterations: expected 1 or more, found {n_power_iterations}")
        self.mode = mode
        self.n_power_iterations = n_power_iterations
        self.grad_through_norm = grad_through_norm
        self.bound_is_initial = bound == "initial"
        self.refined_outside = False
        self.begins_beside = False
        self._images: Tensor | None
        self.live = False
        self.divides_output = None
        linear_map, like = self._linear_map(), self.weight.detach()
        n = min(self.n_vectors, math.prod(linear_map.in_shape), math.prod(linear_map.out_shape))
        u, v = (like.new_zeros(n, *shape) for shape in (linear_map.out_shape, linear_map.in_shape))
        if u.ndim == 4 and not like.is_contiguous():  # channels last, then, as the kernel
            u, v = (t.contiguous(memory_format=torch.channels_last) for t in (u, v))
        self.register_buffer("running_u", u)
        self.register_buffer("running_v", v)
        self.register_buffer("running_sigma", like.new_zeros(()))
        self.register_buffer("bound", like.new_tensor(1.0 if bound == "initial" else bound))
        self.reset_sigma()
        if self.bound_is_initial:
            self._hold_initial_norm()

    @torch.no_grad()
    def reset_sigma(self) -> None:
        """Finds σ and its vectors afresh, to about 1e-6, whatever the buffers held."""
        u = top_singular_vectors(self._linear_map(), self.weight.detach())[0]
        generator = torch.Generator().manual_seed(0)
        others = torch.randn(self.running_u.shape, generator=generator).to(u)
        self.running_u.copy_(orthonormal(torch.cat([u[None], others[1:]])))
        self.running_v.zero_()
        self.running_sigma.zero_()
        self._images = None
        self._turn_to_top(self._linear_map())
        self.power_iteration(10)

    def _hold_initial_norm(self) -> None:
        if not float(self.running_sigma) > TINY:
            raise ConfigError(
                'bound "initial" holds a layer to the norm it came with, but this one\'s weight is '
                "zero or not finite: give a number"
            )
        self.bound.copy_(self.running_sigma)

    @torch.no_grad()
    def power_iteration(self, n_iterations: int = 1) -> None:
        """Refines the stored σ and vectors for the weight as it is now."""
        for _ in range(n_iterations):
            self._iterate(self._linear_map().apply(self.running_v))

    @torch.no_grad()
    def refine(self) -> None:
        """Makes the power iterations that belong to one gradient step.

        The first begins where `begins_beside` has it begun.
        """
        n, images = self.n_power_iterations, self._images
        self._images = None
        if images is not None:
            self._iterate(images)
            n -= 1
        self.power_iteration(n)

    def _iterate(self, images: Tensor) -> None:
        """Makes a power iteration of which one half is made: the right vectors' images."""
        self.running_u.copy_(orthonormal(images))
        self._turn_to_top(self._linear_map())

    def _begins_iteration(self) -> bool:
        asked = self.begins_beside and self.training and torch.is_grad_enabled()
        return asked and self._gains_beside()

    def _gains_beside(self) -> bool:
        """Says whether one product of batch and vectors takes less than two, compiled."""
        raise NotImplementedError

    def _turn_to_top(self, linear_map: LinearMap) -> None:
        """Rotates the left vectors so that the most stretched is first; the right ones follow."""
        image = linear_map.adjoint(self.running_u)
        turn, sigma = ritz(image)
        right = turn(as_rows(image)) / sigma.clamp_min(TINY)
        self.running_v.copy_(from_rows(finite(right), image))
        self.running_u.copy_(from_rows(turn(as_rows(self.running_u)), self.running_u))
        self._store_sigma(sigma)

    @torch.no_grad()
    def refresh_sigma(self) -> None:
        """Computes the stored σ anew for the weight as it is now; the vectors stay."""
        self._store_sigma(self._stretch())

    @torch.no_grad()
    def _stretch(self) -> Tensor:
        """Gives σ as the stored vectors see it."""
        return ritz(self._linear_map().adjoint(self.running_u))[1]

    def _store_sigma(self, sigma: Tensor) -> None:
        self.running_sigma.copy_(torch.where(sigma < math.inf, sigma, self.running_sigma))

    def _differentiates_norm(self) -> bool:
        held = self.mode != "track" and self.grad_through_norm
        return held and self.training and torch.is_grad_enabled()

    @property
    def hold(self) -> Hold:
        """The factor on the output as a function of σ."""
        return Hold(self.bound, self.mode)

    @property
    def sigma(self) -> Tensor:
        """The stored estimate of the raw weight's σ, or a live one; a scalar tensor."""
        return self._stretch() if self.live else self.running_sigma

    @property
    def scale(self) -> Tensor:
        """The factor on the output by `sigma`; a scalar tensor."""
        return self.hold.scale_of(self.sigma)

    @property
    def output_scale(self) -> Tensor:
        """The factor on the whole output, bias and all; 1 but for `divides_output`."""
        return Hold(self.bound, self.divides_output or "track").scale_of(self.sigma)

    def _finish(self, z: Tensor) -> Tensor:
        return z if self.divides_output is None else z * self.output_scale

    @property
    def effective_weight(self) -> Tensor:
        """The weight of the plain layer that computes the same function in evaluation mode."""
        return self.weight * (self.scale * self.output_scale)

    def exact_sigma(self, *, effective: bool = True) -> float:
        """Computes σ to rounding, of the effective weight or of the raw one. Changes nothing."""
        sigma = exact_norm(self.weight, **self.norm_arguments())
        return sigma * float(self.scale * self.output_scale) if effective else sigma

    def certified_sigma(self, *, effective: bool = True) -> float:
        """Bounds σ from above, of the effective weight or of the raw one. Changes nothing."""
        sigma = certified_norm(self.weight, **self.norm_arguments())
        return sigma * float(self.scale * self.output_scale) if effective else sigma

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # A plain layer's state has a weight and no vectors: take the weight, then find them.
        plain = prefix + "weight" in state_dict and prefix + "running_sigma" not in state_dict
        if plain:
            own = {prefix + name: getattr(self, name) for name in (*_RUNNING, "bound")}
            state_dict = {**state_dict, **own}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if plain:
            self.reset_sigma()
            if self.bound_is_initial:
                self._hold_initial_norm()

    def extra_repr(self) -> str:
        """Adds the spectral settings to the plain layer's own."""
        bound = "initial" if self.bound_is_initial else f"{float(self.bound):g}"
        return f"{super().extra_repr()}, bound={bound}, mode={self.mode}"


class WideLinear(nn.Linear):
    """A plain linear layer that multiplies as `SpectralLinear` does: see `wide_linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer; x of shape (..., in), the result (..., out)."""
        z = wide_linear(x, self.weight)
        return z if self.bias is None else z + self.bias


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

    def _linear_map(self) -> LinearMap:
        return matrix_map(self.weight.detach())

    def _gains_beside(self) -> bool:
        return self.weight.numel() >= _LARGE

    def forward(self, x: Tensor) -> Tensor:
        """Applies the normalised layer; x of shape (..., in), the result (..., out)."""
        if self.training and not self.refined_outside:
            with torch.autocast(x.device.type, enabled=False):
                self.refine()
        if self._differentiates_norm():
            z = self._through_norm(x.flatten(0, -2)).view(*x.shape[:-1], self.out_features)
        else:
            z = wide_linear(x, self.weight)
            if self.mode != "track":
                z = z * self.scale
        return self._finish(z if self.bias is None else z + self.bias)

    def _through_norm(self, x: Tensor) -> Tensor:
        # Copies: the buffers move in place at the next forward, maybe before this backward.
        u, v = self.running_u[0].clone(), self.running_v[0].clone()
        if torch.is_autocast_enabled(x.device.type):
            return linear_through_norm(x, self.weight, u, v, self.hold)
        vectors = self.running_v if self._begins_iteration() else None
        z, self._images = LinearThroughNorm.apply(  # type: ignore[no-untyped-call]
            x, self.weight, u, v, self.scale, self.hold, vectors
        )
        return cast(Tensor, z)


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

    # Fewer: each costs two convolutions of one sample.
    n_vectors: ClassVar[int] = 2

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

    def _linear_map(self) -> LinearMap:
        weight = self.weight.detach()
        if self.conv_norm == "kernel":
            return matrix_map(weight)
        return convolution_map(weight, **self.norm_arguments())

    def _gains_beside(self) -> bool:
        # Small ones are compiled as products of patches, which the gradient reads too: the batch's.
        return self.conv_norm == "operator" and self.running_v[0].numel() >= _LARGE

    def norm_arguments(self) -> dict[str, Any]:
        """Gives what `exact_norm` needs besides the weight: the operator's geometry."""
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
        with torch.autocast(x.device.type, enabled=False):
            if self.training and not self.refined_outside:
                self.refine()
            # A kernel is far smaller than what it puts out: here the weight is the one to scale.
            weight = self.weight
            if self.mode != "track":
                weight = weight * self._differentiable_scale()
        if self._begins_iteration():
            z, self._images = convolution_beside(
                x, weight, self.bias, self.running_v, **self._geometry()
            )
        else:
            z = self._conv_forward(x, weight, self.bias)
        return self._finish(z)

    def _differentiable_scale(self) -> Tensor:
        if not self._differentiates_norm():
            return self.scale
        # Copies, as the buffers move in place.
        u, v, sigma = (
            t.clone() for t in (self.running_u[0], self.running_v[0], self.running_sigma)
        )
        sigma = NormOf.apply(self.weight, u, v, sigma, self._linear_map())  # type: ignore[no-untyped-call]
        return self.hold.scale_of(sigma)
