"""What subspace iteration needs besides the map: a basis, and the direction stretched most in it.

A few vectors are followed at once, stacked as rows. These functions wait for no value and branch on
none, so that they can be traced and captured.

Source: Golub and Van Loan, Matrix Computations, 8.2.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

# A vector shorter than this has no direction worth keeping. Its square still fits in float32.
TINY = 1e-12
# Compiled, vectors of so many numbers in all, or of so few, are made orthonormal by loops.
_LARGE = 2**12
_SMALL = 2**5


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
    if traced() and not _SMALL < rows.numel() < _LARGE:
        basis = gram_schmidt_rows(rows)
    else:
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


def gram_schmidt_rows(rows: Tensor) -> Tensor:
    """Gives what QR gives, up to signs, by sums, which are compiled to a few loops for each vector.

    LAPACK, called once between loops that stream megabytes, takes 50 to 75 µs; the loops 10 to 20.
    Between small loops it takes 10, and they as long or, for 6 vectors and more, longer.

    Args:
        rows: k vectors of n numbers, k <= n, shape (k, n); linearly dependent ones as well.

    Source: Gram-Schmidt made twice, after Kahan; Parlett, The Symmetric Eigenvalue Problem, 6.9.
    """
    place = torch.arange(rows.shape[1], device=rows.device)
    rounding = 64 * torch.finfo(rows.dtype).eps
    basis: list[Tensor] = []
    for x in rows:
        once = [(q * x).sum() for q in basis]
        rest = _less(x, once, basis)
        twice = [(q * rest).sum() for q in basis]
        square = _less(rest.square().sum(), twice, twice)
        # Of a dependent vector nothing but rounding is left. It gives place to the unit vector that
        # the basis so far covers least: of j + 1 of them one by j / (j + 1) or less.
        is_dependent = square <= (rounding**2 * x.square().sum()).clamp_min(TINY**2)
        unit, covered, parts = _least_covered(basis, place)
        square = torch.where(is_dependent, 1 - covered, square)
        parts = [
            torch.where(is_dependent, part, a + b)
            for part, a, b in zip(parts, once, twice, strict=True)
        ]
        whole = torch.where(is_dependent, unit.to(x), x)
        basis.append(stored(_less(whole, parts, basis) / square.sqrt()))
    return torch.stack(basis)


def _less(x: Tensor, factors: list[Tensor], vectors: list[Tensor]) -> Tensor:
    for factor, vector in zip(factors, vectors, strict=True):
        x = x - factor * vector
    return x


def _least_covered(basis: list[Tensor], place: Tensor) -> tuple[Tensor, Any, list[Tensor]]:
    """Finds, among the first j + 1, the unit vector that j orthonormal ones cover least.

    Returns:
        (where its 1 is, the square of what they cover of it, its products with them).
    """
    if not basis:
        return place == 0, 0.0, []
    corner = torch.stack([q[: len(basis) + 1] for q in basis])
    least = corner.square().sum(dim=0).argmin()
    parts = corner.index_select(1, least[None])[:, 0]
    return place == least, parts.square().sum(), list(parts.unbind())


def stored(x: Tensor) -> Tensor:
    """Has a value written to memory, which every compiled loop that reads it would compute anew."""
    return x.as_strided(x.size(), x.stride())


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
