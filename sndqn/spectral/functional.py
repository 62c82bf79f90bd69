"""The factor that holds a layer to its bound, and its gradient."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sndqn.spectral.norms import LinearMap, matrix_map
from sndqn.spectral.subspace import TINY

Mode = Literal["normalize", "shrink", "track"]


class Constraint(NamedTuple):
    """What a layer is held to: the factor on its output as a function of σ."""

    bound: Tensor
    mode: Mode

    def scale_of(self, sigma: Tensor) -> Tensor:
        """Computes bound / σ, at most 1 when shrinking; 1 when tracking, or for a zero weight."""
        if self.mode == "track":
            return torch.ones_like(self.bound)
        ceiling = self.bound / sigma.clamp_min(TINY)
        if self.mode == "shrink":
            return ceiling.clamp_max(1.0)
        return torch.where(sigma > TINY, ceiling, 1.0)

    def slope_of(self, scale: Tensor) -> Tensor:
        """Computes the derivative of the factor by σ, from the factor: -bound / σ².

        Where the factor is constant because the weight is zero, it is multiplied by zero anyway.
        """
        slope = -scale.square() / self.bound
        return slope * (scale < 1) if self.mode == "shrink" else slope


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
        """Computes the gradient of W."""
        u, v = ctx.saved_tensors
        return grad * ctx.linear_map.slope(u, v), None, None, None, None


class LinearThroughNorm(torch.autograd.Function):
    """z = s(σ(W)) · W x, with dσ/dW = u vᵀ.

    Autograd by itself would write u vᵀ as a matrix the size of W and add it in passes of their
    own; here it is part of the product that gives the weight's gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        u: Tensor,
        v: Tensor,
        scale: Tensor,
        constraint: Constraint,
    ) -> Tensor:
        """Takes x (batch, in), W (out, in), u (out,), v (in,) and s; gives z (batch, out)."""
        z = F.linear(x, weight)
        ctx.save_for_backward(x, weight, u, v, scale, z)
        ctx.constraint = constraint
        return z * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Computes the gradients of x and W."""
        x, weight, u, v, scale, z = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted: let autograd see every step
            z = F.linear(x, weight) * ctx.constraint.scale_of(norm_along(matrix_map(weight), u, v))
            needed = [
                t for t, needs in zip((x, weight), ctx.needs_input_grad, strict=False) if needs
            ]
            grads = iter(torch.autograd.grad(z, needed, grad, create_graph=True))
            return *(next(grads) if needs else None for needs in ctx.needs_input_grad[:2]), *[
                None
            ] * 4
        grad_z = grad * scale
        grad_x = grad_z @ weight if ctx.needs_input_grad[0] else None
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_sigma = torch.sum(ctx.constraint.slope_of(scale) * grad * z)
            # The rank-1 term is one more sample of the batch: the same product adds it.
            outputs = torch.cat([grad_z, (u * grad_sigma)[None]])
            grad_weight = outputs.t() @ torch.cat([x, v[None]])
        return grad_x, grad_weight, *[None] * 4


def norm_along(linear_map: LinearMap, u: Tensor, v: Tensor) -> Tensor:
    """Computes uᵀ A v, which is σ for A's top vectors, by operations that autograd follows."""
    return (u * linear_map.apply(v[None])[0]).sum()
