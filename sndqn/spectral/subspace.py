"""What subspace iteration needs besides the map: a basis, and the direction stretched most in it.

A few vectors are followed at once, stacked as rows. These functions wait for no value and branch on
none, so that they can be traced and captured.

Source: Golub and Van Loan, Matrix Computations, 8.2.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

# A vector shorter than this has no direction worth keeping. Its square still fits in float32.
TINY = 1e-12


def traced() -> bool:
    """Says whether operations are being written down, to be compiled; so does torch.compile."""
    return torch.compiler.is_compiling() or get_proxy_mode() is not None


def as_rows(block: Tensor) -> Tensor:
    """Gives stacked vectors as rows, without a copy: their numbers in the order of memory."""
    return (block.permute(0, 2, 3, 1) if _channels_last(block) else block).flatten(1)


def from_rows(rows: Tensor, like: Tensor) -> Tensor:
    """Gives rows back the shape and order of the stacked vectors they came from."""
    if _channels_last(like):
        n, channels, height, width = like.shape
        return rows.view(n, height, width, channels).permute(0, 3, 1, 2)
    return rows.view_as(like)


def _channels_last(block: Tensor) -> bool:
    return block.ndim == 4 and block.is_contiguous(memory_format=torch.channels_last)


def orthonormal(block: Tensor) -> Tensor:
    """Gives an orthonormal basis of stacked vectors; zeros where they are not finite."""
    rows = as_rows(block)
    basis = householder_rows(rows) if rows.is_cuda else torch.linalg.qr(rows.t()).Q.t()
    return finite(from_rows(basis, block))


def householder_rows(rows: Tensor) -> Tensor:
    """Gives what QR gives, up to signs, by operations that a CUDA graph can hold.

    Args:
        rows: k vectors of n numbers, k <= n, shape (k, n); linearly dependent ones as well.

    Source: Golub and Van Loan, Matrix Computations, 5.1 and 5.2.
    """
    k, n = rows.shape
    place = torch.arange(n, device=rows.device)
    reflections: list[tuple[Tensor, Tensor]] = []
    for j in range(k):
        x = torch.where(place >= j, rows[j], 0.0)
        length = torch.linalg.vector_norm(x)
        length = torch.where(x[j] < 0, -length, length)
        w = torch.where(place == j, x + length, x)
        factor = _inverse(length * (length + x[j]))  # 2 / |w|²
        reflections.append((w, factor))
        rows = rows - torch.outer(rows @ w * factor, w)
    basis = torch.eye(k, n, dtype=rows.dtype, device=rows.device)
    for w, factor in reversed(reflections):
        basis = basis - torch.outer(basis @ w * factor, w)
    return basis


def _inverse(x: Tensor) -> Tensor:
    """Gives 1 / x of a number that is 0 or more, and 0 where it is too small for that."""
    return torch.where(x > TINY**2, 1 / x.clamp_min(TINY**2), 0.0)


def finite(x: Tensor) -> Tensor:
    """Gives zeros in place of what is not finite."""
    return torch.nan_to_num(x, 0.0, 0.0, 0.0)


def ritz(image: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Finds the direction that A stretches most among stacked orthonormal vectors.

    Args:
        image: Their images under A, stacked.

    Returns:
        (turn, σ): what combines the vectors by an orthogonal matrix, the most stretched first:
        rows in their place -> rows, k of any length; and by how much that one is stretched, never
        more than A's norm. NaN where the images are not finite.
    """
    rows = as_rows(image)
    gram = rows @ rows.t()
    nan_if_broken = 0 * gram.sum()
    # Called from Python, LAPACK takes 16 µs and the squarings 400. Traced, it comes between loops
    # that are compiled to one; on a GPU it waits for the device.
    if rows.device.type == "cpu" and not traced():
        values, vectors = torch.linalg.eigh(finite(gram))  # eigh raises on NaN
        rotation = vectors.flip(1).t()
        return lambda x: rotation @ x, values[-1].clamp_min(0).sqrt() + nan_if_broken
    direction = top_eigenvector(finite(gram))
    sigma = torch.linalg.vector_norm(direction @ rows)
    return _reflection_onto(direction), sigma + nan_if_broken


def top_eigenvector(gram: Tensor) -> Tensor:
    """Finds the unit vector that a small positive semidefinite matrix stretches most.

    Of two rows by a formula. Of more by its 16384th power, in which an eigenvalue that is smaller
    by a thousandth is as good as gone; of what is closer the result is a mixture, which is
    stretched as much to 1e-5. The first unit vector for a zero matrix.

    Args:
        gram: Shape (k, k).
    """
    if len(gram) == 2:
        return _top_of_two(gram)
    power, identity = gram, torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for i in range(14):
        if i % 4 == 0:  # the 16th power of an eighth is still a number in float32
            power = power * _inverse((power * identity).sum())
        power = (power[:, :, None] * power).sum(dim=1)  # its square; a product would end the loop
    largest = (power * identity).sum(dim=1).argmax()
    column = power.index_select(1, largest[None])[:, 0]
    length = torch.linalg.vector_norm(column)
    return torch.where(length > 0, column * _inverse(length), identity[0])


def _top_of_two(gram: Tensor) -> Tensor:
    """Gives the same of a matrix [[a, b], [b, c]] by its formula, to rounding."""
    # Of the larger, (a + c) / 2 + r, both (h + r, b) and (b, r - h) are eigenvectors.
    h, b = (gram[0, 0] - gram[1, 1]) / 2, gram[0, 1]
    r = torch.hypot(h, b)
    first, second = torch.where(h < 0, b, h + r), torch.where(h < 0, r - h, b)
    length = torch.hypot(first, second)
    is_vector = length > 0
    return torch.stack(
        [torch.where(is_vector, first / length, 1.0), torch.where(is_vector, second / length, 0.0)]
    )


def _reflection_onto(direction: Tensor) -> Callable[[Tensor], Tensor]:
    """Gives an orthogonal map of rows; the first becomes their sum by a unit vector, up to sign."""
    first = torch.eye(1, len(direction), dtype=direction.dtype, device=direction.device)[0]
    w = torch.where(direction[0] < 0, direction - first, direction + first)
    factor = w / (1 + direction[0].abs())
    # No products: they would come between loops that are compiled to one.
    return lambda rows: rows - torch.outer(factor, (w[:, None] * rows).sum(dim=0))
