"""What subspace iteration needs besides the map: a basis, and the direction stretched most in it.

A few vectors are followed at once, stacked as rows.

Source: Golub and Van Loan, Matrix Computations, 8.2.
"""

import torch
from torch import Tensor

# A vector shorter than this has no direction worth keeping. Its square still fits in float32.
TINY = 1e-12


def as_rows(block: Tensor) -> Tensor:
    """Returns stacked vectors as rows, without a copy: their numbers in the order of memory."""
    return (block.permute(0, 2, 3, 1) if _channels_last(block) else block).flatten(1)


def from_rows(rows: Tensor, like: Tensor) -> Tensor:
    """Undoes `as_rows`: `like` is the stacked vectors that the rows came from."""
    if _channels_last(like):
        n, channels, height, width = like.shape
        return rows.view(n, height, width, channels).permute(0, 3, 1, 2)
    return rows.view_as(like)


def _channels_last(block: Tensor) -> bool:
    return block.ndim == 4 and block.is_contiguous(memory_format=torch.channels_last)


def orthonormal(block: Tensor) -> Tensor:
    """Returns an orthonormal basis of stacked vectors; zeros where they are not finite."""
    basis = torch.linalg.qr(as_rows(block).t()).Q.t()
    return finite(from_rows(basis, block))


def finite(x: Tensor) -> Tensor:
    """Returns zeros in place of what is not finite."""
    return torch.nan_to_num(x, 0.0, 0.0, 0.0)


def ritz(image: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the direction that A stretches most among stacked orthonormal vectors.

    Args:
        image: Their images under A, stacked.

    Returns:
        (rotation, σ): the orthogonal matrix that combines the vectors, and so their images, into
        those of which the first is stretched most; and by how much that one is stretched, never
        more than A's norm. σ is NaN where the images are not finite.
    """
    rows = as_rows(image)
    gram = rows @ rows.t()
    nan_if_broken = 0 * gram.sum()
    values, vectors = torch.linalg.eigh(finite(gram))  # eigh raises on NaN
    return vectors.flip(1).t(), values[-1].clamp_min(0).sqrt() + nan_if_broken
