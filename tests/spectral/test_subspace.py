"""A basis is orthonormal, and the direction found in it is the one stretched most."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sndqn.spectral.subspace import orthonormal, ritz

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


@given(st.integers(0, 2**16))
def test_ritz_finds_the_most_stretched_combination(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    basis = orthonormal(torch.randn(3, 5, generator=generator, dtype=torch.float64))
    rotation, sigma = ritz(basis @ matrix.t())
    truth = float(torch.linalg.matrix_norm(basis @ matrix.t(), 2))
    assert float(sigma) == pytest.approx(truth, rel=1e-9)
    first = (rotation @ basis)[0]
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
@given(drawn_blocks)
def test_a_basis_spans_whatever_the_rows_do(rows: Tensor) -> None:
    basis = orthonormal(rows)
    torch.testing.assert_close(basis @ basis.t(), torch.eye(len(rows)), rtol=0, atol=3e-6)
    rest = rows - (rows @ basis.t()) @ basis
    assert float(rest.norm()) <= 1e-5 * float(rows.norm())


def test_ritz_of_what_is_not_finite_is_no_number() -> None:
    assert not float(ritz(torch.full((2, 5), math.nan))[1]) < math.inf
