"""Small convolutions as matrix products, in compiled updates.

oneDNN's convolutions take 0.1 ms forwards and 0.17 ms backwards where a batch of 32 grids of
10 x 10 cells meets 16 kernels of 3 x 3, a twentieth of what the cores can do. To gather what each
output sees and multiply that by the kernels takes a third of it, where TorchInductor makes one loop
of the gathering; uncompiled, the gathering takes longer than the product saves. So it is with the
one or two images that a power iteration sends through a convolution and back, of any size.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

aten: Any = torch.ops.aten

# Patches of larger images cost more memory traffic than the product saves: the Nature CNN's first
# convolution, 3.3 million numbers for a batch of 32, gains nothing.
_LARGEST = 2**19


def _output_size(x: Tensor, weight: Tensor, stride: Sequence[int]) -> tuple[int, int]:
    height, width = ((x.shape[2 + i] - weight.shape[2 + i]) // stride[i] + 1 for i in range(2))
    return height, width


def _only_channels_last(x: Tensor) -> bool:
    """Returns whether the channels are last in memory; not where both orders are the same."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _rows(x: Tensor) -> Tensor:
    """Returns a row for each place of each image, (batch · height · width, channels)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _seen(x: Tensor, weight: Tensor, stride: Sequence[int]) -> Tensor:
    """Returns what each output sees; (batch, channels, *outputs, *kernel)."""
    # Written to memory, or each number would be computed once for each output that sees it.
    x = x.as_strided(x.size(), x.stride())
    for i in range(2):
        x = x.unfold(2 + i, weight.shape[2 + i], stride[i])
    return x


def _patch_rows(x: Tensor, weight: Tensor, stride: Sequence[int]) -> Tensor:
    """Returns what each output sees; (batch · outputs, kernel height · kernel width · channels)."""
    return _seen(x, weight, stride).permute(0, 2, 3, 4, 5, 1).flatten(0, 2).flatten(1)


def _patches(x: Tensor, weight: Tensor, stride: Sequence[int]) -> Tensor:
    """Returns what each output sees; (batch, channels · kernel height · kernel width, outputs)."""
    return _seen(x, weight, stride).permute(0, 1, 4, 5, 2, 3).flatten(1, 3).flatten(2)


def _applies(x: Tensor, weight: Tensor, geometry: Sequence[Any]) -> bool:
    stride, padding, dilation, transposed, _, groups = geometry
    plain = not transposed and groups == 1 and not any(padding) and all(d == 1 for d in dilation)
    if not plain or x.ndim != 4 or not (x.is_contiguous() or _only_channels_last(x)):
        return False
    n_outputs = math.prod(_output_size(x, weight, stride))
    return x.shape[0] * n_outputs * weight[0].numel() <= _LARGEST


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Any:
    """Computes `aten.convolution`, or NotImplemented for one that is not small and plain."""
    if bias is None and _transposes(x, weight, geometry):
        stride, _, _, _, unreached, _ = geometry
        return _transposed(x, weight, stride, unreached)
    if not _applies(x, weight, geometry):
        return NotImplemented
    if _only_channels_last(x):
        z = _patch_rows(x, weight, geometry[0]) @ weight.permute(0, 2, 3, 1).flatten(1).t()
        z = z.view(len(x), *_output_size(x, weight, geometry[0]), len(weight))
        return (z if bias is None else z + bias).permute(0, 3, 1, 2)
    kernels = weight.flatten(1).expand(len(x), -1, -1)
    z = torch.bmm(kernels, _patches(x, weight, geometry[0]))
    z = z.view(len(x), len(weight), *_output_size(x, weight, geometry[0]))
    return z if bias is None else z + bias[:, None, None]


def _transposes(x: Tensor, weight: Tensor, geometry: Sequence[Any]) -> bool:
    _, padding, dilation, transposed, _, groups = geometry
    plain = transposed and groups == 1 and not any(padding) and all(d == 1 for d in dilation)
    return plain and x.ndim == 4 and x[:, 0].numel() * weight[0].numel() <= _LARGEST


def _transposed(
    x: Tensor, weight: Tensor, stride: Sequence[int], unreached: Sequence[int]
) -> Tensor:
    """Computes a transposed convolution: a patch for each input, then what overlaps, summed.

    By cells of the stride's size, of which a patch covers a few: each sum has as many terms.
    """
    n, _, *grid = x.shape
    n_out, *kernel = weight.shape[1:]
    n_cells = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]
    places = x.permute(0, 2, 3, 1).flatten(1, 2)
    patches = places.flatten(0, 1) @ weight.permute(0, 2, 3, 1).flatten(1)
    patches = patches.view(n, *grid, *kernel, n_out)
    short = [c * s - k for c, s, k in zip(n_cells, stride, kernel, strict=True)]
    if any(short):
        patches = F.pad(patches, (0, 0, 0, short[1], 0, short[0]))
    (rows, columns), (height, width) = n_cells, stride
    patches = patches.view(n, *grid, rows, height, columns, width * n_out)
    image: Any = 0
    for i in range(rows):
        for j in range(columns):
            part = patches[:, :, :, i, :, j].transpose(2, 3)  # batch, row, its part, column, ...
            image = image + F.pad(part, (0, 0, j, columns - 1 - j, 0, 0, i, rows - 1 - i))
    image = image.reshape(n, (grid[0] + rows - 1) * height, (grid[1] + columns - 1) * width, n_out)
    margin = [unreached[i] - short[i] for i in range(2)]
    return F.pad(image, (0, 0, 0, margin[1], 0, margin[0])).permute(0, 3, 1, 2)


def convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, _: Any, *rest: Any) -> Any:
    """Computes `aten.convolution_backward`, or NotImplemented where the input needs a gradient."""
    *geometry, wanted = rest
    if wanted[0] or not _applies(x, weight, geometry):
        return NotImplemented
    grad_weight = None
    if _only_channels_last(x):
        grad = _rows(grad)
        if wanted[1]:
            products = grad.t() @ _patch_rows(x, weight, geometry[0])
            n_out, n_in, *size = weight.shape
            grad_weight = products.view(n_out, *size, n_in).permute(0, 3, 1, 2)
        return None, grad_weight, grad.sum(dim=0) if wanted[2] else None
    if wanted[1]:
        patches = _patches(x, weight, geometry[0])
        products = torch.bmm(grad.flatten(2), patches.transpose(1, 2))
        grad_weight = products.sum(dim=0).view_as(weight)
    return None, grad_weight, grad.sum(dim=(0, 2, 3)) if wanted[2] else None


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Lists what takes the place of which operation."""
    return {
        aten.convolution.default: convolution,
        aten.convolution_backward.default: convolution_backward,
    }
