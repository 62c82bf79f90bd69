"""Convolutions on small grids as matrix products, for the compiled update.

oneDNN's convolutions take 0.1 ms forwards and 0.17 ms backwards where a batch of 32 grids of
10 x 10 cells meets 16 kernels of 3 x 3, a twentieth of what the cores can do. To gather what each
output sees and multiply that by the kernels takes a third of it, where TorchInductor makes one loop
of the gathering; uncompiled, the gathering takes longer than the product saves.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten: Any = torch.ops.aten

# Patches of larger images cost more memory traffic than the product saves: the Nature CNN's first
# convolution, 3.3 million numbers for a batch of 32, gains nothing.
_LARGEST = 2**19


def _patches(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Gives what each output sees; (batch, channels · kernel height · kernel width, outputs)."""
    height, width = ((x.shape[2 + i] - kernel[i]) // stride[i] + 1 for i in range(2))
    cells = [
        x[:, :, i : i + height * stride[0] : stride[0], j : j + width * stride[1] : stride[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return torch.stack(cells, dim=2).reshape(x.shape[0], -1, height * width)


def _applies(x: Tensor, weight: Tensor, geometry: Sequence[Any]) -> bool:
    stride, padding, dilation, transposed, _, groups = geometry
    plain = not transposed and groups == 1 and not any(padding) and all(d == 1 for d in dilation)
    if not plain or x.ndim != 4 or not x.is_contiguous():
        return False
    n_outputs = 1
    for i in range(2):
        n_outputs *= (x.shape[2 + i] - weight.shape[2 + i]) // stride[i] + 1
    return x.shape[0] * n_outputs * weight[0].numel() <= _LARGEST


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Any:
    """Computes `aten.convolution`, or NotImplemented for one that is not small and plain."""
    if not _applies(x, weight, geometry):
        return NotImplemented
    kernel, stride = weight.shape[2:], geometry[0]
    z = weight.flatten(1) @ _patches(x, kernel, stride)
    if bias is not None:
        z = z + bias[:, None]
    height, width = ((x.shape[2 + i] - kernel[i]) // stride[i] + 1 for i in range(2))
    return z.view(x.shape[0], -1, height, width)


def convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, _: Any, *rest: Any) -> Any:
    """Computes `aten.convolution_backward`, or NotImplemented where the input needs a gradient."""
    *geometry, wanted = rest
    if wanted[0] or not _applies(x, weight, geometry):
        return NotImplemented
    grad = grad.flatten(2)
    patches = _patches(x, weight.shape[2:], geometry[0])
    grad_weight = torch.einsum("bof,bkf->ok", grad, patches).view_as(weight) if wanted[1] else None
    return None, grad_weight, grad.sum(dim=(0, 2)) if wanted[2] else None


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.convolution.default: convolution,
    aten.convolution_backward.default: convolution_backward,
}
