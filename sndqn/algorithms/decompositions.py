"""Operations that compiled updates do otherwise: small convolutions, thin products, a few more.

oneDNN's convolutions take 0.1 ms forwards and 0.17 ms backwards where a batch of 32 grids of
10 x 10 cells meets 16 kernels of 3 x 3, a twentieth of what the cores can do. To gather what each
output sees and multiply that by the kernels takes a third of it, where TorchInductor makes one loop
of the gathering; uncompiled, the gathering takes longer than the product saves. So it is with the
one or two images that a power iteration sends through a convolution and back, of any size.

Where a batch, or a few vectors, meets a large matrix as torch lays it out, oneMKL divides the
product badly among threads: the weight's gradient of 32 samples and 128 x 1024 took 0.27 ms on two
threads, 0.10 on one (AMD Zen 4). By blocks, of which each thread takes some, it is 0.10 ms on both;
the input's gradient 0.09 instead of 0.13. The values are best computed as W xᵀ, 0.07 instead of
0.09 ms; those of 8 vectors by blocks, 0.04 instead of 0.06. At 512 x 3136 it is 0.95 instead of 2.0
ms for the weight's gradient, 0.92 instead of 1.2 for the input's, and 0.26 instead of 0.39 for 8
vectors. Weights that lie input by input (see `layout`) are met by shares of their inputs, one for
each thread. Where the vectors meet them along memory, a loop of sums takes 0.16 ms; a product 0.26.

Products of a few numbers, as of a network's head, become loops, which the compiler joins with those
around them: of 24 loops and products in MinAtar's update that leaves 15.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sndqn.algorithms.layout import MOST_THREADS, Shape

aten: Any = torch.ops.aten

# Patches of larger images cost more memory traffic than the product saves: the Nature CNN's first
# convolution, 3.3 million numbers for a batch of 32, gains nothing.
_LARGEST = 2**19

# Of multiplications. A head of 6 x 128 takes 24,576 for a batch of 32: a loop, then.
_LARGEST_LOOP = 2**15
# 32 samples and 64 x 512 take as many. Below it a product takes a few µs.
_LEAST_WORK = 2**20
_LARGEST_BATCH = 64
_FEW_VECTORS = 16
# As many sums are one loop, which reads the matrix once.
_FEW_SUMS = 8
# 128 x 1024. Smaller matrices are met by a product in as little time.
_LARGE = 2**17
# 256 KB of numbers: a core's second cache has room for them.
_CACHED = 2**16
# Rows or columns that a block of a matrix has at least.
_LEAST_BLOCK = 64


def _output_size(x: Tensor, weight: Tensor, stride: Sequence[int]) -> tuple[int, int]:
    height, width = ((x.shape[2 + i] - weight.shape[2 + i]) // stride[i] + 1 for i in range(2))
    return height, width


def _only_channels_last(x: Tensor) -> bool:
    """Says whether the channels are last in memory; not where both orders are the same."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _rows(x: Tensor) -> Tensor:
    """Gives a row for each place of each image, (batch · height · width, channels)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _stored(x: Tensor) -> Tensor:
    """Has a value written to memory, which every loop that reads it would compute otherwise."""
    return x.as_strided(x.size(), x.stride())


def _seen(x: Tensor, weight: Tensor, stride: Sequence[int]) -> Tensor:
    """Gives what each output sees; (batch, channels, *outputs, *kernel)."""
    x = _stored(x)  # or each number would be computed once for each output that sees it
    for i in range(2):
        x = x.unfold(2 + i, weight.shape[2 + i], stride[i])
    return x


def _patch_rows(x: Tensor, weight: Tensor, stride: Sequence[int]) -> Tensor:
    """Gives what each output sees; (batch · outputs, kernel height · kernel width · channels)."""
    return _seen(x, weight, stride).permute(0, 2, 3, 4, 5, 1).flatten(0, 2).flatten(1)


def _patches(x: Tensor, weight: Tensor, stride: Sequence[int]) -> Tensor:
    """Gives what each output sees; (batch, channels · kernel height · kernel width, outputs)."""
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
    # Image by image: of blocks of columns, see `product`, the sums below would be read one by one.
    patches = torch.bmm(places, weight.permute(0, 2, 3, 1).flatten(1).expand(n, -1, -1))
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


def product(a: Tensor, b: Tensor, *, input_major: frozenset[Shape] = frozenset()) -> Any:
    """Computes `aten.mm` in the best order or by blocks; NotImplemented where that is oneMKL's.

    Args:
        a: Shape (m, k).
        b: Shape (k, n).
        input_major: Shapes of the weights that lie input by input, see `layout`.
    """
    (m, k), n = a.shape, b.shape[1]
    if m * k * n <= _LARGEST_LOOP:
        return _small_product(a, b)
    if m <= _FEW_SUMS and k * n >= _LARGE and _column_major(b) and a.device.type == "cpu":
        return _sums(a, b.t())
    if (m, n) in input_major:
        return _weight_gradient(a, b)
    few_threads = a.device.type == "cpu" and torch.get_num_threads() <= MOST_THREADS
    if not few_threads or m * k * n < _LEAST_WORK or min(m, k, n) > _LARGEST_BATCH or m == n:
        return NotImplemented
    if m > n:
        return _product_of_transposed(a, b) if _column_major(a) else NotImplemented
    if (n, k) in input_major and not _column_major(b):
        return _sum_by_inputs(a, b)
    if _column_major(b) and m > _FEW_VECTORS and (k, n) not in input_major:
        return _product_of_transposed(a, b)
    n_blocks = _n_blocks(n)
    if n_blocks == 1:
        return NotImplemented
    columns = b.reshape(k, n_blocks, -1).transpose(0, 1)
    return torch.bmm(a.expand(n_blocks, m, k), columns).transpose(0, 1).flatten(1)


def _weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Computes the gradient of a weight that lies input by input, and lies so too.

    Each thread computes that of its own inputs, some at a time. Shapes (outputs, batch) and (batch,
    inputs).
    """
    n_inputs, n_threads = x.shape[1], torch.get_num_threads()
    possible = [
        n for n in range(n_threads, n_inputs // _LEAST_BLOCK + 1, n_threads) if n_inputs % n == 0
    ] or [n_threads]
    cached = (n for n in possible if n_inputs // n * len(grad) <= _CACHED)
    inputs = x.t().reshape(next(cached, possible[-1]), -1, len(x))
    return torch.bmm(inputs, grad.expand(len(inputs), *grad.shape).mT).flatten(0, 1).t()


def _sum_by_inputs(x: Tensor, weight: Tensor) -> Any:
    """Computes x Wᵀ of a weight that lies input by input: each thread's share, then their sum."""
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        return NotImplemented
    inputs = x.reshape(len(x), n_threads, -1).transpose(0, 1)
    return torch.bmm(inputs, weight.reshape(n_threads, -1, weight.shape[1])).sum(dim=0)


def _sums(vectors: Tensor, matrix: Tensor) -> Tensor:
    """Computes x Mᵀ of a few vectors as a sum for each row of the matrix."""
    # Stored, or the loop would compute them anew for every row.
    return torch.stack([(matrix * v).sum(dim=1) for v in _stored(vectors)])


def _n_blocks(n_columns: int) -> int:
    """Gives the most blocks, of 64 columns or more, whose rows are whole vectors of the CPU's.

    Whatever reads the blocks as one matrix then does so by vectors.
    """
    return next(
        (i for i in (16, 8, 4, 2) if n_columns % (16 * i) == 0 and n_columns >= _LEAST_BLOCK * i), 1
    )


def _product_of_transposed(a: Tensor, b: Tensor) -> Tensor:
    return torch.mm(b.t(), a.t()).t()


def _column_major(x: Tensor) -> bool:
    return x.stride(0) == 1 and x.stride(1) != 1


def _small_product(a: Tensor, b: Tensor) -> Tensor:
    # What the loop's vectors run along lies in memory as they do.
    if _column_major(a):
        return (b.t().unsqueeze(2) * a.t()).sum(dim=1).t()
    if _column_major(b):
        return (a.unsqueeze(1) * b.t()).sum(dim=2)
    return (a.unsqueeze(2) * b).sum(dim=1)


def affine(bias: Tensor, a: Tensor, b: Tensor, **factors: float) -> Any:
    """Computes `aten.addmm` as a loop, or NotImplemented for one that is not small and plain."""
    if factors or a.shape[0] * a.shape[1] * b.shape[1] > _LARGEST_LOOP:
        return NotImplemented
    return _small_product(a, b) + bias


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
    return _stored(result.t().contiguous()).t() if x.ndim == 2 else _stored(result)


def nan_to_num(
    x: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """Computes `aten.nan_to_num` with zero for all three, or NotImplemented for other values.

    TorchInductor asks of each number by itself whether it is NaN, and three times in all.
    """
    if (nan or 0.0, posinf, neginf) != (0.0, 0.0, 0.0):
        return NotImplemented
    return torch.where(x.abs() < math.inf, x, 0.0)  # false for NaN too


def decompositions(
    input_major: frozenset[Shape] = frozenset(),
) -> dict[Any, Callable[..., Any]]:
    """Lists what takes the place of which operation.

    Args:
        input_major: Shapes of the weights that lie input by input, see `layout`.
    """
    return {
        aten.convolution.default: convolution,
        aten.convolution_backward.default: convolution_backward,
        aten.mm.default: partial(product, input_major=input_major),
        aten.addmm.default: affine,
        aten.scatter_add.default: scatter_add,
        aten.nan_to_num.default: nan_to_num,
    }
