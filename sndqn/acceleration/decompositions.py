"""Operations that compiled updates do otherwise: small convolutions, products, a few more.

oneDNN's convolutions take 0.1 ms forwards and 0.17 ms backwards where a batch of 32 grids of
10 x 10 cells meets 16 kernels of 3 x 3, a twentieth of what the cores can do. To gather what each
output sees and multiply that by the kernels takes a third of it, where TorchInductor makes one loop
of the gathering; uncompiled, the gathering takes longer than the product saves. So it is with the
one or two images that a power iteration sends through a convolution and back, of any size.

Large products are oneDNN's, see `onednn`; a large gradient's norm is a sum of sums, `vector_norm`.

Products of a few numbers, as of a network's head, become loops, which the compiler joins with those
around them: of 24 loops and products in MinAtar's update that leaves 15.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sndqn.acceleration import onednn
from sndqn.acceleration.graph_linalg import stored

aten: Any = torch.ops.aten

# Patches of larger images cost more memory traffic than the product saves: the Nature CNN's first
# convolution, 3.3 million numbers for a batch of 32, gains nothing.
_LARGEST = 2**19

# Of multiplications. A head of 6 x 128 takes 24,576 for a batch of 32: a loop, then.
_LARGEST_LOOP = 2**15
# Of multiplications as well: with less, oneDNN's preparations, some 20 µs, take what it gains.
_LEAST_WORK = 3 * 2**20
# Where a matrix is large: a power iteration's products of 8 vectors and 128 x 1024 have as many.
_LEAST_WORK_IF_LARGE = 2**20
# Of a matrix's numbers.
_LARGE = 2**17


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
    x = stored(x)  # or each number would be computed once for each output that sees it
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


def product(a: Tensor, b: Tensor) -> Any:
    """Computes `aten.mm` as a loop or by oneDNN; NotImplemented where oneMKL's is as good.

    Args:
        a: Shape (m, k).
        b: Shape (k, n).
    """
    (m, k), n = a.shape, b.shape[1]
    if m * k * n <= _LARGEST_LOOP:
        return _small_product(a, b)
    least = _LEAST_WORK_IF_LARGE if k * n >= _LARGE else _LEAST_WORK
    if m * k * n < least or not onednn.takes(a, b):
        return NotImplemented
    return onednn.linear(a, b.t())


def _column_major(x: Tensor) -> bool:
    return x.stride(0) == 1 and x.stride(1) != 1


def _small_product(a: Tensor, b: Tensor) -> Tensor:
    # The loop's vectors run along contiguous memory.
    if _column_major(a):
        return (b.t().unsqueeze(2) * a.t()).sum(dim=1).t()
    if _column_major(b):
        return (a.unsqueeze(1) * b.t()).sum(dim=2)
    return (a.unsqueeze(2) * b).sum(dim=1)


def affine(bias: Tensor, a: Tensor, b: Tensor, **factors: float) -> Any:
    """Computes `aten.addmm` as a product and a sum, or NotImplemented for one with factors.

    A loop, which others join, adds the bias. For 32 x 512 and 4 outputs oneMKL took three times as
    long to add to what is there as to multiply.
    """
    return NotImplemented if factors else a @ b + bias


def scatter_add(x: Tensor, dim: int, index: Tensor, values: Tensor) -> Any:
    """Computes `aten.scatter_add` of one value a row, or NotImplemented for more of them.

    So a loss of one action's value is differentiated; torch's own is no part of a loop.
    """
    one_a_row = [1 if i == dim % x.ndim else size for i, size in enumerate(x.shape)]
    if not list(index.shape) == list(values.shape) == one_a_row:
        return NotImplemented
    places = torch.arange(x.shape[dim], device=x.device)
    places = places.view([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])
    result = x + torch.where(places == index, values, 0)
    # Stored, or every loop that reads one would compute the loss anew; with the batch last, along
    # which loops run by whole vectors, and not by a handful of actions.
    return stored(result.t().contiguous()).t() if x.ndim == 2 else stored(result)


def nan_to_num(
    x: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """Computes `aten.nan_to_num` with zero for all three, or NotImplemented for other values.

    TorchInductor asks of each number by itself whether it is NaN, and three times in all.
    """
    if (nan or 0.0, posinf, neginf) != (0.0, 0.0, 0.0):
        return NotImplemented
    return torch.where(x.abs() < math.inf, x, 0.0)  # false for NaN too


def vector_norm(x: Tensor, ord: float = 2, *args: Any, **kwargs: Any) -> Any:
    """Computes `aten.linalg_vector_norm` of a large matrix row by row, or NotImplemented.

    TorchInductor sums up millions of numbers by way of partial sums, of which it keeps account at
    every step: 0.2 ms for 1.6 million squares. So many sums of a row each, and their sum, take 0.1.
    """
    if ord != 2 or args or kwargs or x.ndim != 2 or x.numel() < _LARGE:
        return NotImplemented
    rows = x.t() if _column_major(x) else x
    return rows.square().sum(dim=1).sum().sqrt()


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Lists what takes the place of which operation."""
    return {
        aten.convolution.default: convolution,
        aten.convolution_backward.default: convolution_backward,
        aten.mm.default: product,
        aten.addmm.default: affine,
        aten.scatter_add.default: scatter_add,
        aten.nan_to_num.default: nan_to_num,
        aten.linalg_vector_norm.default: vector_norm,
    }
