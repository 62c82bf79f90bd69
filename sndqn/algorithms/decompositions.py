"""Convolutions on small grids as matrix products, for the compiled update.

oneDNN's convolutions take 0.1 ms forwards and 0.17 ms backwards where a batch of 32 grids of
10 x 10 cells meets 16 kernels of 3 x 3, a twentieth of what the cores can do. To gather what each
output sees and multiply that by the kernels takes a third of it, where TorchInductor makes one loop
of the gathering; uncompiled, the gathering takes longer than the product saves.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten: Any = torch.ops.aten

# Patches of larger images cost more memory traffic than the product saves: the Nature CNN's first
# convolution, 3.3 million numbers for a batch of 32, gains nothing.
_LARGEST = 2**19


def _output_size(x: Tensor, weight: Tensor, stride: Sequence[int]) -> tuple[int, int]:
    height, width = ((x.shape[2 + i] - weight.shape[2 + i]) // stride[i] + 1 for i in range(2))
    return height, width


def _patches(x: Tensor, weight: Tensor, stride: Sequence[int]) -> Tensor:
    """Gives what each output sees; (channels · kernel height · kernel width, batch · outputs)."""
    height, width = _output_size(x, weight, stride)
    x = x.transpose(0, 1)
    cells = [
        x[:, :, i : i + height * stride[0] : stride[0], j : j + width * stride[1] : stride[1]]
        for i in range(weight.shape[2])
        for j in range(weight.shape[3])
    ]
    return torch.stack(cells, dim=1).reshape(weight[0].numel(), -1)


def _applies(x: Tensor, weight: Tensor, geometry: Sequence[Any]) -> bool:
    stride, padding, dilation, transposed, _, groups = geometry
    plain = not transposed and groups == 1 and not any(padding) and all(d == 1 for d in dilation)
    if not plain or x.ndim != 4 or not x.is_contiguous():
        return False
    n_outputs = math.prod(_output_size(x, weight, stride))
    return x.shape[0] * n_outputs * weight[0].numel() <= _LARGEST


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Any:
    """Computes `aten.convolution`, or NotImplemented for one that is not small and plain."""
    if not _applies(x, weight, geometry):
        return NotImplemented
    z = weight.flatten(1) @ _patches(x, weight, geometry[0])
    z = z.view(len(weight), len(x), *_output_size(x, weight, geometry[0]))
    if bias is not None:
        # On the view, where it becomes part of the loop that follows. Right after the product it
        # would be made part of that, which first copies the bias to all places.
        z = z + bias[:, None, None, None]
    return z.transpose(0, 1)


def convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, _: Any, *rest: Any) -> Any:
    """Computes `aten.convolution_backward`, or NotImplemented where the input needs a gradient."""
    *geometry, wanted = rest
    if wanted[0] or not _applies(x, weight, geometry):
        return NotImplemented
    grad = grad.transpose(0, 1).flatten(1)
    grad_weight = None
    if wanted[1]:
        grad_weight = (grad @ _patches(x, weight, geometry[0]).t()).view_as(weight)
    return None, grad_weight, grad.sum(dim=1) if wanted[2] else None


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.convolution.default: convolution,
    aten.convolution_backward.default: convolution_backward,
}
