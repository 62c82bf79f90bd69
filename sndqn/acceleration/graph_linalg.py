"""QR and eigenvectors of few vectors as sums and products, in place of calls to LAPACK.

A CUDA graph cannot record torch.linalg's own, which look at a value to see whether they have
succeeded.

Only for what `sndqn.spectral.subspace` does with them: the basis of a tall matrix, and the last
eigenvector and eigenvalue of a positive semidefinite one; other vectors are orthonormal to it,
other eigenvalues are zeros.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sndqn.spectral.subspace import TINY

_results: Any = torch.return_types


class GraphLinalg(TorchFunctionMode):
    """A context in which torch.linalg.qr and torch.linalg.eigh wait for no value."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replaces the two functions, and passes every other on."""
        if func is torch.linalg.qr:
            return _results.linalg_qr(_qr(args[0]))
        if func is torch.linalg.eigh:
            return _results.linalg_eigh(_top_last(args[0]))
        return func(*args, **(kwargs or {}))


def _qr(x: Tensor) -> tuple[Tensor, Tensor]:
    basis = gram_schmidt_rows(x.t()).t()
    return basis, basis.t() @ x


def _top_last(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (values, vectors) of which the last is the top eigenvector's."""
    direction = top_eigenvector(gram)
    n = len(gram)
    last = torch.eye(n, dtype=gram.dtype, device=gram.device)[-1]
    # The reflection that turns the last unit vector into the direction, up to sign.
    w = torch.where(direction[-1] < 0, direction - last, direction + last)
    vectors = torch.outer(w / (1 + direction[-1].abs()), w) - torch.diag(torch.ones_like(w))
    return (direction @ gram @ direction) * last, vectors


def gram_schmidt_rows(rows: Tensor) -> Tensor:
    """Computes an orthonormal basis as QR does, up to signs.

    Args:
        rows: k vectors of n numbers, k <= n, shape (k, n); linearly dependent ones as well.

    Source: Gram-Schmidt made twice, after Kahan; Parlett, The Symmetric Eigenvalue Problem, 6.9.
    """
    k, n = rows.shape
    row = torch.arange(k, device=rows.device)[:, None]
    place = torch.arange(n, device=rows.device)
    rounding = 64 * torch.finfo(rows.dtype).eps
    basis = torch.zeros_like(rows)
    for j, x in enumerate(rows):
        rest = _outside(basis, x)
        # Of a dependent vector nothing but rounding is left. It gives place to the unit vector that
        # the basis so far covers least: of k of them one by j / k or less.
        least = (rounding**2 * x.square().sum()).clamp_min(TINY**2)
        unit = place == basis[:, :k].square().sum(dim=0).argmin()
        rest = torch.where(rest.square().sum() <= least, unit.to(rest), rest)
        rest = _outside(basis, rest)
        basis = torch.where(row == j, rest / rest.square().sum().sqrt(), basis)
    return basis


def _outside(basis: Tensor, x: Tensor) -> Tensor:
    """Subtracts from x its part in the span of orthonormal rows; zeros are no rows yet."""
    return x - ((basis * x).sum(dim=1, keepdim=True) * basis).sum(dim=0)


def top_eigenvector(gram: Tensor) -> Tensor:
    """Finds the unit vector that a small positive semidefinite matrix stretches most.

    By its 16384th power, in which an eigenvalue smaller by a thousandth has vanished. Closer ones
    mix, and the mixture is stretched as much to 1e-5. The first unit vector for a zero matrix.

    Args:
        gram: Shape (k, k).
    """
    power, identity = gram, torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for i in range(14):
        if i % 4 == 0:  # the 16th power of an eighth is still a number in float32
            power = power * _inverse((power * identity).sum())
        power = power @ power
    largest = (power * identity).sum(dim=1).argmax()
    column = power.index_select(1, largest[None])[:, 0]
    length = torch.linalg.vector_norm(column)
    return torch.where(length > 0, column * _inverse(length), identity[0])


def _inverse(x: Tensor) -> Tensor:
    """Returns 1 / x of a number that is 0 or more, and 0 where it is too small for that."""
    return torch.where(x > TINY**2, 1 / x.clamp_min(TINY**2), 0.0)
