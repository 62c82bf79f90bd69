"""The factor that holds a layer under its norm, and its gradient."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sndqn.spectral.norms import LinearMap, Pair
from sndqn.spectral.subspace import TINY, traced

Mode = Literal["normalize", "shrink", "track"]


class Hold(NamedTuple):
    """How a layer is held: the factor on its output as a function of σ."""

    bound: Tensor
    mode: Mode

    def scale_of(self, sigma: Tensor) -> Tensor:
        """Gives bound / σ, at most 1 when shrinking, 1 when only tracking; 1 for a zero weight."""
        if self.mode == "track":
            return torch.ones_like(sigma)
        ceiling = self.bound / sigma.clamp_min(TINY)
        if self.mode == "shrink":
            return ceiling.clamp_max(1.0)
        return torch.where(sigma > TINY, ceiling, 1.0)

    def slope_of(self, scale: Tensor) -> Tensor:
        """Gives the derivative of the factor by σ, from the factor: -bound / σ².

        Where the factor is constant because the weight is zero, it is multiplied by zero anyway.
        """
        slope = -scale.square() / self.bound
        return slope * (scale < 1) if self.mode == "shrink" else slope


def wide_linear(x: Tensor, weight: Tensor) -> Tensor:
    """Computes x Wᵀ, as (W xᵀ)ᵀ where that is faster.

    oneMKL 2024.2 takes half the time for the latter on two threads, and never much longer, where a
    batch of 16 to 32 meets a large matrix: 0.5 against 1.1 ms for 32 samples and 512 x 3136. Traced
    products are not oneMKL's.
    """
    if not traced() and x.ndim == 2 and 16 <= x.shape[0] <= 32 and weight.numel() >= 2**17:
        return (weight @ x.t()).t()
    return F.linear(x, weight)


def _beside(
    product: Callable[[Tensor], Tensor], x: Tensor, vectors: Tensor
) -> tuple[Tensor, Tensor]:
    """Gives the products of both with a weight by one product, which reads the weight once.

    Compiled, what computes x stores it where the vectors are.
    """
    both, n = product(torch.cat([x, vectors])), len(x)
    return both[:n], both[n:]


def convolution_beside(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    vectors: Tensor,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """Convolves a batch and, beside it, a power iteration's vectors: traced, in one convolution.

    Uncompiled, to copy a batch to where the vectors are takes longer than to convolve two of them.

    Args:
        x: Shape (batch, *input).
        weight: As all else in `F.conv2d`.
        bias: A number for each output channel, or None.
        vectors: Shape (n, *input).
        stride: As in `F.conv2d`.
        padding: As in `F.conv2d`.
        dilation: As in `F.conv2d`.
        groups: As in `F.conv2d`.

    Returns:
        (W * x + b, the images W * vectors, which no gradient knows of).
    """
    geometry = stride, padding, dilation, groups
    if traced():
        z, images = _ConvolutionBeside.apply(x, weight, vectors, *geometry)  # type: ignore[no-untyped-call]
        return z if bias is None else z + bias[:, None, None], images
    with torch.no_grad():
        images = F.conv2d(vectors, weight, None, *geometry)
    return F.conv2d(x, weight, bias, *geometry), images


class _ConvolutionBeside(torch.autograd.Function):
    """Takes the gradient of a batch that is convolved along with vectors, and not theirs."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, vectors: Tensor, *geometry: Any
    ) -> tuple[Tensor, Tensor]:
        z, images = _beside(lambda x: F.conv2d(x, weight, None, *geometry), x, vectors)
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        ctx.mark_non_differentiable(images)
        return z, images

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        wanted = (*ctx.needs_input_grad[:2], False)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, weight, None, stride, padding, dilation, False, (0, 0), groups, wanted
        )
        return grad_x, grad_weight, *[None] * 5


class NormOf(torch.autograd.Function):
    """σ as a function of the weight: the stored value forwards, dσ/dW = d(uᵀ A v)/dW backwards."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, u: Tensor, v: Tensor, sigma: Tensor, linear_map: LinearMap
    ) -> Tensor:
        """Takes W, its map's top vectors u and v, and its σ."""
        ctx.save_for_backward(u, v)
        ctx.linear_map = linear_map
        return sigma

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gives the gradient of W."""
        u, v = ctx.saved_tensors
        return grad * ctx.linear_map.slope(u, v), None, None, None, None


class LinearThroughNorm(torch.autograd.Function):
    """z = s(σ(W)) · W x, with dσ/dW = u vᵀ.

    Autograd by itself would write u vᵀ as a matrix the size of W and add it in passes of their
    own; here it rides on the product that gives the weight's gradient or, compiled, on the loop
    that reads it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        u: Tensor,
        v: Tensor,
        scale: Tensor,
        hold: Hold,
        vectors: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Takes x (batch, in), W (out, in), u (out,), v (in,), s and a power iteration's vectors.

        Returns:
            (z, the images W · vectors, which no gradient knows of, if there are vectors).
        """
        if vectors is None:
            z, images = wide_linear(x, weight), None
        elif traced():
            z, images = _beside(lambda x: F.linear(x, weight), x, vectors)
        else:
            z, images = wide_linear(x, weight), F.linear(vectors, weight)
        ctx.save_for_backward(x, weight, u, v, scale, z)
        ctx.hold = hold
        if images is not None:
            ctx.mark_non_differentiable(images)
        return z * scale, images

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gives the gradients of x and W."""
        x, weight, u, v, scale, z = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted: let autograd see every step
            z = linear_through_norm(x, weight, u, v, ctx.hold)
            needed = [
                t for t, needs in zip((x, weight), ctx.needs_input_grad, strict=False) if needs
            ]
            grads = iter(torch.autograd.grad(z, needed, grad, create_graph=True))
            return *(next(grads) if needs else None for needs in ctx.needs_input_grad[:2]), *[
                None
            ] * 5
        grad_z = grad * scale
        grad_x = grad_z @ weight if ctx.needs_input_grad[0] else None
        grad_weight = None
        if ctx.needs_input_grad[1]:
            # The slope within the sum: a loop over the weights would divide by σ for each of them.
            grad_sigma = torch.sum(ctx.hold.slope_of(scale) * grad * z)
            if traced():
                # Part of the loop of the optimiser's step, which then has two dimensions, as have
                # the power iteration's sums of a large weight; and no sum, which would join the
                # product.
                grad_weight = grad_z.t() @ x - torch.outer(u * -grad_sigma, v)
            else:
                # The rank-1 term is one sample more of the batch: the same product sums it up.
                outputs = torch.cat([grad_z, (u * grad_sigma)[None]])
                grad_weight = outputs.t() @ torch.cat([x, v[None]])
        return grad_x, grad_weight, *[None] * 5


def linear_through_norm(x: Tensor, weight: Tensor, u: Tensor, v: Tensor, hold: Hold) -> Tensor:
    """Computes the same by autograd alone: slower, for second derivatives and mixed precision."""
    with torch.autocast(x.device.type, enabled=False):
        scale = hold.scale_of(torch.dot(u, torch.mv(weight, v)))
    return F.linear(x, weight) * scale
