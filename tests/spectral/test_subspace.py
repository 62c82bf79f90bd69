"""A basis is orthonormal, and the direction found in it is the one stretched most."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from sndqn.spectral.subspace import (
    gram_schmidt_rows,
    householder_rows,
    orthonormal,
    ritz,
    top_eigenvector,
)

SEEDS = st.integers(0, 2**31 - 1)
few = settings(max_examples=40, deadline=None)


def random_matrix(seed: int, n_out: int, n_in: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_out, n_in, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("value", [0.0, 1e-20, 3.0])
def test_a_basis_is_orthonormal_whatever_comes(value: float) -> None:
    basis = orthonormal(torch.full((2, 5), value))
    torch.testing.assert_close(basis @ basis.t(), torch.eye(2))


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_poisoned_block_gives_zeros(poison: float) -> None:
    assert torch.equal(orthonormal(torch.full((2, 5), poison)), torch.zeros(2, 5))


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_sums_of_a_poisoned_block_are_not_finite(poison: float) -> None:
    rows = torch.randn(3, 5)
    rows[1, 2] = poison
    assert not torch.isfinite(gram_schmidt_rows(rows)[1]).any()


@given(st.integers(0, 2**16))
def test_ritz_finds_the_most_stretched_combination(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    basis = orthonormal(torch.randn(3, 5, generator=generator, dtype=torch.float64))
    turn, sigma = ritz(basis @ matrix.t())
    truth = float(torch.linalg.matrix_norm(basis @ matrix.t(), 2))
    assert float(sigma) == pytest.approx(truth, rel=1e-9)
    first = turn(basis)[0]
    assert float((matrix @ first).norm()) == pytest.approx(truth, rel=1e-9)
    assert truth <= float(torch.linalg.matrix_norm(matrix, 2)) * (1 + 1e-12)


def blocks(seed: int, k: int, n: int, dependent: int, scale: float) -> Tensor:
    """Rows in float32, as many of which as `dependent` are zero or another row once more."""
    rows = random_matrix(seed, k, max(n, k)).float() * scale
    for i in range(min(dependent, k)):
        rows[i] = rows[-1] if i % 2 else 0.0
    return rows


drawn_blocks = st.builds(
    blocks,
    SEEDS,
    st.integers(1, 8),
    st.integers(1, 200),
    st.integers(0, 8),
    st.sampled_from([1e-8, 1.0, 1e8]),
)


@few
@given(drawn_blocks, st.sampled_from([householder_rows, gram_schmidt_rows]))
def test_either_way_gives_an_orthonormal_basis_of_whatever_rows_span(
    rows: Tensor, basis_of: Callable[[Tensor], Tensor]
) -> None:
    basis = basis_of(rows)
    torch.testing.assert_close(basis @ basis.t(), torch.eye(len(rows)), rtol=0, atol=3e-6)
    # Nothing of the rows lies outside.
    rest = rows - (rows @ basis.t()) @ basis
    assert float(rest.norm()) <= 1e-5 * float(rows.norm())


@few
@given(drawn_blocks)
def test_the_top_eigenvector_is_stretched_as_much_as_any(rows: Tensor) -> None:
    gram = rows @ rows.t()
    direction = top_eigenvector(gram).double()
    assert float(direction.norm()) == pytest.approx(1, abs=1e-5)
    largest = float(torch.linalg.eigvalsh(gram.double())[-1])
    assert float(direction @ gram.double() @ direction) == pytest.approx(largest, rel=3e-5)


@pytest.mark.parametrize("gap", [0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.5])
def test_the_top_eigenvector_of_close_eigenvalues_is_stretched_almost_as_much(gap: float) -> None:
    basis = torch.linalg.qr(random_matrix(3, 8, 8)).Q
    values = torch.tensor([1.0, 1 - gap, *[0.5] * 6], dtype=torch.float64)
    gram = (basis * values @ basis.t()).float()
    direction = top_eigenvector(gram).double()
    assert float(direction @ gram.double() @ direction) == pytest.approx(1, rel=1e-5)


@few
@given(SEEDS, st.sampled_from([1e-15, 1.0, 1e15]), st.sampled_from([0.0, 1e-6, 0.3, 1.0]))
def test_the_top_eigenvector_of_two_rows_is_as_exact_at_any_scale(
    seed: int, scale: float, alike: float
) -> None:
    first, second = random_matrix(seed, 2, 6)
    rows = torch.stack([first, alike * first + (1 - alike) * second]) * math.sqrt(scale)
    gram = (rows @ rows.t()).float()
    direction = top_eigenvector(gram).double()
    assert float(direction.norm()) == pytest.approx(1, abs=1e-6)
    largest = float(torch.linalg.eigvalsh(gram.double())[-1])
    assert float(direction @ gram.double() @ direction) == pytest.approx(largest, rel=1e-6)


@pytest.mark.parametrize(
    ("gram", "expected"),
    [
        ([[0.0, 0.0], [0.0, 0.0]], [1.0, 0.0]),
        ([[3.0, 0.0], [0.0, 3.0]], [1.0, 0.0]),
        ([[1.0, 0.0], [0.0, 2.0]], [0.0, 1.0]),
        ([[2.0, 2.0], [2.0, 2.0]], [math.sqrt(0.5), math.sqrt(0.5)]),
        ([[1e30, 0.0], [0.0, 1e-30]], [1.0, 0.0]),
    ],
)
def test_two_rows_may_be_zero_equal_or_far_apart(
    gram: list[list[float]], expected: list[float]
) -> None:
    torch.testing.assert_close(top_eigenvector(torch.tensor(gram)), torch.tensor(expected))


@few
@given(drawn_blocks)
def test_traced_and_called_ritz_find_the_same_direction(rows: Tensor) -> None:
    identity = torch.eye(len(rows))

    def found(rows: Tensor, identity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        turn, sigma = ritz(rows)
        return turn(identity), turn(rows), sigma

    rotation, turned, sigma = make_fx(found)(rows, identity)(rows, identity)
    torch.testing.assert_close(rotation @ rotation.t(), identity, rtol=0, atol=3e-6)
    assert float(sigma) == pytest.approx(float(ritz(rows)[1]), rel=3e-5)
    assert float(turned[0].norm()) == pytest.approx(float(sigma), rel=1e-6)


def test_ritz_of_what_is_not_finite_is_no_number() -> None:
    assert not float(ritz(torch.full((2, 5), math.nan))[1]) < math.inf
