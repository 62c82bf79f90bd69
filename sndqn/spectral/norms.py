"""Spectral norms of linear maps: estimates, exact values and certified upper bounds.

A layer without its bias is a linear map A. Its spectral norm, the largest singular value σ, is the
most it can stretch an input: σ = max |A x| / |x|. For a convolution the map is the whole operator
at a given input size, stride, padding, dilation and groups, not the kernel read as a matrix.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from sndqn.spectral.subspace import TINY, as_rows, finite, from_rows, orthonormal, ritz

Pair = tuple[int, int]


class LinearMap(NamedTuple):
    """A linear map by its action, so that a convolution never becomes a matrix.

    Attributes:
        apply: v of shape `in_shape` -> A v of shape `out_shape`; or several, stacked first.
        adjoint: u of shape `out_shape` -> Aᵀ u of shape `in_shape`; or several.
        slope: (u, v) -> the derivative of uᵀ A v by the weight, in its shape.
        in_shape: Shape of the inputs.
        out_shape: Shape of the outputs.
    """

    apply: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]


def matrix_map(weight: Tensor) -> LinearMap:
    """Returns the map of a weight read as a matrix: its first dimension against all the others.

    Args:
        weight: Shape (out, in) or, for the flattened-kernel norm of a convolution (Miyato et al.,
            ICLR 2018, and torch's own), (out, in / groups, height, width).
    """
    matrix = weight.flatten(1)
    return LinearMap(
        apply=lambda v: F.linear(v, matrix),
        adjoint=lambda u: u @ matrix,
        slope=lambda u, v: torch.outer(u, v).view_as(weight),
        in_shape=(matrix.shape[1],),
        out_shape=(matrix.shape[0],),
    )


def convolution_map(
    weight: Tensor,
    input_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> LinearMap:
    """Returns the operator of a zero-padded convolution at its real input size.

    This is the norm the SN-DQN paper's code uses, after Gouk et al. (arXiv 1804.04368).

    Args:
        weight: Kernel, shape (out, in / groups, height, width).
        input_size: Height and width of the input.
        stride: As in `torch.nn.Conv2d`, one number a side.
        padding: As in `torch.nn.Conv2d`, one number a side.
        dilation: As in `torch.nn.Conv2d`, one number a side.
        groups: As in `torch.nn.Conv2d`.
    """
    reach = [dilation[i] * (weight.shape[2 + i] - 1) + 1 for i in range(2)]
    span = [input_size[i] + 2 * padding[i] - reach[i] for i in range(2)]
    out_size = [span[i] // stride[i] + 1 for i in range(2)]
    # Rows and columns the stride never reaches; the adjoint must give them back, as zeros.
    unreached = [span[i] % stride[i] for i in range(2)]
    geometry = (stride, padding, dilation, groups)
    return LinearMap(
        apply=lambda v: F.conv2d(v, weight, None, *geometry),
        adjoint=lambda u: F.conv_transpose2d(
            u, weight, None, stride, padding, unreached, groups, dilation
        ),
        slope=lambda u, v: conv2d_weight(v[None], weight.shape, u[None], *geometry),  # type: ignore[no-untyped-call]
        in_shape=(weight.shape[1] * groups, *input_size),
        out_shape=(weight.shape[0], *out_size),
    )


class TopVectors(NamedTuple):
    """σ of a map and the vectors that are followed to know it.

    Attributes:
        u: Left vectors, orthonormal, (n, *out_shape); the most stretched first.
        v: Aᵀ u / σ, (n, *in_shape); the first has length 1.
        sigma: Estimate of σ, never above it; a scalar tensor. NaN where the map is not finite.
    """

    u: Tensor
    v: Tensor
    sigma: Tensor


def subspace_iteration(linear_map: LinearMap, v: Tensor) -> TopVectors:
    """Makes a power iteration with several vectors at once.

    Args:
        linear_map: The map A.
        v: Right vectors, (n, *in_shape).

    Source: Golub and Van Loan, Matrix Computations, 8.2.
    """
    return top_vectors(linear_map, orthonormal(linear_map.apply(v)))


def top_vectors(linear_map: LinearMap, u: Tensor) -> TopVectors:
    """Rotates orthonormal left vectors so that the most stretched is first (Rayleigh-Ritz)."""
    image = linear_map.adjoint(u)
    rotation, sigma = ritz(image)
    v = from_rows(finite(rotation @ as_rows(image) / sigma.clamp_min(TINY)), image)
    return TopVectors(from_rows(rotation @ as_rows(u), u), v, sigma)


def top_singular_vectors(
    linear_map: LinearMap, like: Tensor, *, rtol: float = 1e-6, max_iterations: int = 300
) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the largest singular value and its vectors by Golub-Kahan-Lanczos bidiagonalisation.

    With full reorthogonalisation; it needs far fewer products with A than power iteration where
    singular values cluster, as a convolution's do. The start vector is the same at every call and
    draws nothing from torch's global random state.

    Args:
        linear_map: The map A.
        like: A tensor with the dtype and device to work in.
        rtol: Stops when the value moved by less than this, relatively, over ten steps.
        max_iterations: Stops after so many products with A and with Aᵀ.

    Returns:
        (u, v, σ): unit vectors of shapes `out_shape` and `in_shape`, and a scalar tensor. A zero
        map gives σ = 0, one that is not finite σ = NaN, both with arbitrary unit vectors.

    Source: Golub and Kahan, SIAM J. Numer. Anal. 2 (1965).
    """
    n_in, n_out = math.prod(linear_map.in_shape), math.prod(linear_map.out_shape)
    start = torch.randn(n_in, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = (start / start.norm()).to(like)
    lefts, rights = _Basis(start.new_empty(0, n_out)), _Basis(start[None])
    alphas: list[float] = []
    betas: list[float] = []
    history: list[float] = []
    negligible = TINY
    for step in range(min(n_in, n_out, max_iterations)):
        left = linear_map.apply(rights.vectors[-1].view(linear_map.in_shape)).flatten()
        left, alpha = lefts.orthogonalise(left)
        if not alpha > negligible:  # the map is exhausted, or not finite
            break
        right = linear_map.adjoint(left.view(linear_map.out_shape)).flatten()
        right, beta = rights.orthogonalise(right)
        lefts.append(left)
        rights.append(right)
        alphas.append(alpha)
        betas.append(beta)
        # A remainder of rounding errors has no direction that is orthogonal to the basis.
        negligible = max(TINY, 8 * torch.finfo(like.dtype).eps * max(alphas))
        if not beta > negligible:
            break
        # The value can stand still for a few steps before it climbs on.
        if step % 10 == 9:
            history.append(float(torch.linalg.matrix_norm(_bidiagonal(alphas, betas), 2)))
            if step > 20 and history[-1] - history[-2] <= rtol * history[-1]:
                break

    if not alphas or not math.isfinite(sum(alphas) + sum(betas)):
        nothing = like.new_tensor(math.nan if alphas or math.isnan(alpha) else 0.0)
        u = torch.full_like(start, 1 / math.sqrt(n_out))[:1].expand(n_out)
        return u.reshape(linear_map.out_shape), start.view(linear_map.in_shape), nothing
    left_coordinates, values, right_coordinates = torch.linalg.svd(_bidiagonal(alphas, betas))
    u = left_coordinates[:, 0].to(like) @ lefts.vectors
    v = right_coordinates[0].to(like) @ rights.vectors
    return u.view(linear_map.out_shape), v.view(linear_map.in_shape), values[0].to(like)


class _Basis:
    """An orthonormal basis that grows, in one piece of memory: most of the work is reading it.

    Args:
        vectors: The first ones, (k, n).
    """

    def __init__(self, vectors: Tensor) -> None:
        self._room, self._k = vectors, len(vectors)

    @property
    def vectors(self) -> Tensor:
        """The basis, (k, n)."""
        return self._room[: self._k]

    def append(self, vector: Tensor) -> None:
        """Adds a vector, orthogonal to the others and of length 1."""
        if self._k == len(self._room):
            larger = self._room.new_empty(max(32, 2 * self._k), self._room.shape[1])
            larger[: self._k] = self._room
            self._room = larger
        self._room[self._k] = vector
        self._k += 1

    def orthogonalise(self, x: Tensor) -> tuple[Tensor, float]:
        """Removes from x its part in the span; returns the rest's direction and length."""
        q = self.vectors
        for _ in range(2):  # twice is enough (Kahan, Parlett): the first pass leaves rounding
            x = x - (q @ x) @ q
        length = float(torch.linalg.vector_norm(x))
        return (x / length if length > 0 else x), length


def _bidiagonal(diagonal: list[float], superdiagonal: list[float]) -> Tensor:
    """Returns the (k, k + 1) matrix of A between the two bases."""
    k = len(diagonal)
    matrix = torch.zeros(k, k + 1, dtype=torch.float64)
    matrix.diagonal().copy_(torch.tensor(diagonal, dtype=torch.float64))
    matrix.diagonal(1).copy_(torch.tensor(superdiagonal, dtype=torch.float64))
    return matrix


def dense_matrix(linear_map: LinearMap, like: Tensor) -> Tensor:
    """Writes the map as a matrix of shape (outputs, inputs); for small maps and for tests."""
    n_in = math.prod(linear_map.in_shape)
    identity = torch.eye(n_in, dtype=like.dtype, device=like.device)
    columns = [linear_map.apply(e.view(linear_map.in_shape)).flatten() for e in identity]
    return torch.stack(columns, dim=1)


def exact_norm(weight: Tensor, **convolution: Any) -> float:
    """Computes σ to rounding, in float64: for audits and tables, not for every update.

    Args:
        weight: A matrix, shape (out, in); or a kernel with four dimensions.
        convolution: For a convolution's operator, the arguments of `convolution_map` after the
            weight; without them a kernel is read as a matrix.

    Returns:
        σ; NaN where the weight is not finite. A matrix goes through the eigenvalues of its Gram
        matrix, an operator through Lanczos run until it stands still at 1e-11.
    """
    weight = weight.detach().double()
    if not bool(torch.isfinite(weight).all()):
        return math.nan
    scale = float(weight.abs().max())
    if scale == 0:
        return 0.0
    weight = weight / scale  # so that nothing is too small to iterate on, or to square
    if convolution:
        operator = convolution_map(weight, **convolution)
        sigma = top_singular_vectors(operator, weight, rtol=1e-11, max_iterations=2000)[2]
        return float(sigma) * scale
    matrix = weight.flatten(1)
    gram = matrix @ matrix.t() if matrix.shape[0] < matrix.shape[1] else matrix.t() @ matrix
    return math.sqrt(max(float(torch.linalg.eigvalsh(gram)[-1]), 0.0)) * scale


def certified_norm(weight: Tensor, iterations: int = 12, **convolution: Any) -> float:
    """Bounds σ from above by Gram iteration: never below the truth, a little above it.

    A matrix G has σ(G) <= |G|_F, and squaring, G <- Gᴴ G, turns that into σ <= |G_t|_F^(1 / 2^t):
    within a factor rank^(1 / 2^(t+1)) of σ. A convolution is bounded by the circular convolution
    on its padded grid, which contains it; there each frequency is a small matrix of its own.

    Args:
        weight: As in `exact_norm`.
        iterations: Squarings t.
        convolution: As in `exact_norm`.

    Source: Delattre et al., ICML 2023, arXiv 2305.16173; strides by space-to-depth.
    """
    weight = weight.detach().double()
    if not bool(torch.isfinite(weight).all()):
        return math.nan
    matrices = _frequency_matrices(weight, **convolution) if convolution else weight.flatten(1)
    gram = matrices if matrices.shape[-2] < matrices.shape[-1] else matrices.mH
    log_bound = torch.zeros(gram.shape[:-2], dtype=torch.float64, device=gram.device)
    for t in range(iterations):
        length = torch.linalg.matrix_norm(gram)
        log_bound = log_bound + length.log() / 2**t
        gram = gram / length.clamp_min(1e-300)[..., None, None]
        gram = gram @ gram.mH
    log_bound = log_bound + torch.linalg.matrix_norm(gram).log() / 2**iterations
    # Rounding in float64 is far below this margin, so the bound stays a bound.
    return math.exp(float(log_bound.max())) * (1 + 1e-9)


def _frequency_matrices(
    weight: Tensor,
    input_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Returns the matrices of the circular convolution that contains a zero-padded one.

    The grid is the padded input, rounded up to a multiple of the stride: no kept output wraps
    around. Space-to-depth makes the stride 1 there: each s x s cell becomes s² channels.

    Returns:
        Shape (groups, frequencies, out / groups, in / groups · s_h · s_w), complex.
    """
    out_channels, in_channels = weight.shape[0] // groups, weight.shape[1]
    cells = [-(-(input_size[i] + 2 * padding[i]) // stride[i]) for i in range(2)]
    grid = weight.new_zeros(
        groups, out_channels, in_channels, cells[0] * stride[0], cells[1] * stride[1]
    )
    rows = torch.arange(weight.shape[2]) * dilation[0]
    columns = torch.arange(weight.shape[3]) * dilation[1]
    grid[..., rows[:, None], columns[None, :]] = weight.view(
        groups, out_channels, in_channels, *weight.shape[2:]
    )
    grid = grid.view(
        groups, out_channels, in_channels, cells[0], stride[0], cells[1], stride[1]
    ).permute(0, 1, 2, 4, 6, 3, 5)
    spectrum: Tensor = (
        torch.fft.fft2(grid).flatten(2, 4).flatten(3)
    )  # (groups, out, in·s², frequencies)
    return spectrum.permute(0, 3, 1, 2)
