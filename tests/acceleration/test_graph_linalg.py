"""QR and eigenvectors without LAPACK are LAPACK's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sndqn.acceleration.graph_linalg import (
    GraphLinalg,
    gram_schmidt_rows,
    top_eigenvector,
)
from sndqn.spectral.subspace import orthonormal, ritz

SEEDS = st.integers(0, 2**31 - 1)
few = settings(max_examples=40, deadline=None)


def random_matrix(seed: int, n_out: int, n_in: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_out, n_in, generator=generator, dtype=torch.float64)


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
@given(drawn_blocks)
def test_sums_give_an_orthonormal_basis_of_whatever_rows_span(rows: Tensor) -> None:
    basis = gram_schmidt_rows(rows)
    torch.testing.assert_close(basis @ basis.t(), torch.eye(len(rows)), rtol=0, atol=3e-6)
    # Nothing of the rows lies outside.
    rest = rows - (rows @ basis.t()) @ basis
    assert float(rest.norm()) <= 1e-5 * float(rows.norm())


@few
@given(SEEDS, st.integers(1, 16), st.integers(16, 200))
def test_of_independent_rows_it_is_lapacks_basis_up_to_signs(seed: int, k: int, n: int) -> None:
    rows = random_matrix(seed, k, n)
    expected = torch.linalg.qr(rows.t()).Q.t()
    found = gram_schmidt_rows(rows)
    signs = (found * expected).sum(dim=1, keepdim=True).sign()
    torch.testing.assert_close(found * signs, expected, rtol=0, atol=1e-9)


def test_what_is_not_finite_leaves_zeros_and_no_sigma_as_with_lapack() -> None:
    rows = random_matrix(0, 4, 64).float()
    rows[2, 5] = torch.nan
    broken = rows.clone()
    with GraphLinalg():
        basis, sigma = orthonormal(rows), ritz(broken)[1]
    assert torch.isfinite(basis).all()
    assert basis[2:].count_nonzero() == 0
    assert sigma.isnan()
    assert ritz(broken)[1].isnan()


@few
@given(drawn_blocks)
def test_the_top_eigenvector_is_stretched_as_much_as_any(rows: Tensor) -> None:
    gram = rows @ rows.t()
    direction = top_eigenvector(gram).double()
    assert float(direction.norm()) == pytest.approx(1, abs=1e-5)
    largest = float(torch.linalg.eigvalsh(gram.double())[-1])
    assert float(direction @ gram.double() @ direction) == pytest.approx(largest, rel=3e-5)


def test_a_zero_matrix_and_one_of_equal_eigenvalues_have_a_unit_vector() -> None:
    for gram in (torch.zeros(4, 4), torch.eye(4), torch.ones(1, 1)):
        with GraphLinalg():
            values, vectors = torch.linalg.eigh(gram)
        torch.testing.assert_close(vectors @ vectors.t(), torch.eye(len(gram)), rtol=0, atol=1e-6)
        torch.testing.assert_close(values[-1], torch.linalg.eigvalsh(gram)[-1])


@pytest.mark.parametrize("gap", [0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.5])
def test_the_top_eigenvector_of_close_eigenvalues_is_stretched_almost_as_much(gap: float) -> None:
    basis = torch.linalg.qr(random_matrix(3, 8, 8)).Q
    values = torch.tensor([1.0, 1 - gap, *[0.5] * 6], dtype=torch.float64)
    gram = (basis * values @ basis.t()).float()
    direction = top_eigenvector(gram).double()
    assert float(direction @ gram.double() @ direction) == pytest.approx(1, rel=1e-5)


@few
@given(drawn_blocks)
def test_the_heart_finds_the_same_sigma_by_them(rows: Tensor) -> None:
    with GraphLinalg():
        basis = orthonormal(rows)
        rotation, sigma = ritz(rows)
    torch.testing.assert_close(basis @ basis.t(), torch.eye(len(rows)), rtol=0, atol=3e-6)
    torch.testing.assert_close(rotation @ rotation.t(), torch.eye(len(rows)), rtol=0, atol=3e-6)
    assert float(sigma) == pytest.approx(float(ritz(rows)[1]), rel=3e-5)
    assert float((rotation @ rows)[0].norm()) == pytest.approx(float(sigma), rel=3e-5)
