"""QR and eigenvectors without waiting for the device, as a CUDA graph needs them.

torch.linalg's own look at a value to see whether they have succeeded, which cannot be recorded.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sndqn.spectral.subspace import TINY

_results: Any = torch.return_types


class GraphLinalg(TorchFunctionMode):
    """A context in which torch.linalg.qr and torch.linalg.eigh wait for no value.

    Only for what `sndqn.spectral.subspace` does with them: the basis of a tall matrix, and the last
    eigenvector and eigenvalue of a positive semidefinite one; other vectors are orthonormal to it,
    other eigenvalues are zeros.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replaces the two functions, and passes every other on."""
        if func is torch.linalg.qr:
            basis = householder_rows(args[0].t()).t()
            return _results.linalg_qr((basis, basis.t() @ args[0]))
        if func is torch.linalg.eigh:
            return _results.linalg_eigh(_top_last(args[0]))
        return func(*args, **(kwargs or {}))


def _top_last(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (values, vectors) of which the last is the top eigenvector's."""
    direction = top_eigenvector(gram)
    n = len(gram)
    last = torch.eye(n, dtype=gram.dtype, device=gram.device)[-1]
    # The reflection that turns the last unit vector into the direction, up to sign.
    w = torch.where(direction[-1] < 0, direction - last, direction + last)
    vectors = torch.outer(w / (1 + direction[-1].abs()), w) - torch.diag(torch.ones_like(w))
    return (direction @ gram @ direction) * last, vectors


def householder_rows(rows: Tensor) -> Tensor:
    """Computes an orthonormal basis as QR does, up to signs, by operations a CUDA graph can hold.

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
    """Gives 1 / x of a number that is 0 or more, and 0 where it is too small for that."""
    return torch.where(x > TINY**2, 1 / x.clamp_min(TINY**2), 0.0)
