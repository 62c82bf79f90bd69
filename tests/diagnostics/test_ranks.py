"""Ranks of features: against NumPy and loops, and matrices whose ranks are known."""

import math

import numpy as np
import pytest
import torch

from sndqn.diagnostics.ranks import ranks


def by_hand(phi: np.ndarray) -> dict[str, float]:
    """The definitions, a loop each, on singular values from the eigenvalues of ΦᵀΦ in float64."""
    s = np.sqrt(np.clip(np.linalg.eigvalsh(phi.T @ phi), 0, None))[::-1]
    total, srank, so_far = float(s.sum()), 0, 0.0
    while so_far / total < 0.99:
        so_far += s[srank]
        srank += 1
    feature = relative = 0
    entropy = squares = 0.0
    for value in s:
        feature += value / math.sqrt(len(phi)) > 0.01
        relative += value / s[0] > 0.01
        squares += value**2
        share = value / total
        entropy -= share * math.log(share) if share > 0 else 0
    return {
        "srank": srank,
        "feature_rank": feature,
        "relative_rank": relative,
        "stable_rank": squares / s[0] ** 2,
        "entropy_rank": math.exp(entropy),
    }


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_all_five_are_as_defined(decay: float) -> None:
    draw = np.random.default_rng(0)
    phi = draw.standard_normal((200, 32)) * decay ** np.arange(32)
    found = ranks(torch.from_numpy(phi))
    assert found == pytest.approx(by_hand(phi), rel=1e-6)
    assert len(set(found.values())) > 1


def test_orthonormal_features_have_full_rank_and_copies_of_one_have_rank_1() -> None:
    q = torch.linalg.qr(torch.randn(40, 8, generator=torch.Generator().manual_seed(0))).Q
    assert list(ranks(q * 40**0.5).values()) == pytest.approx([8] * 5, rel=1e-5)
    one = torch.ones(40, 1) @ torch.arange(1.0, 9)[None]
    assert list(ranks(one).values()) == pytest.approx([1] * 5, rel=1e-5)


def test_the_feature_rank_alone_depends_on_the_scale() -> None:
    phi = torch.randn(100, 10, generator=torch.Generator().manual_seed(0))
    large, small = ranks(phi), ranks(phi * 1e-3)
    assert large["feature_rank"] == 10
    assert small["feature_rank"] == 0
    del large["feature_rank"], small["feature_rank"]
    assert large == pytest.approx(small, rel=1e-5)


def test_zero_features_have_rank_0_and_broken_ones_none() -> None:
    assert set(ranks(torch.zeros(4, 3)).values()) == {0.0}
    assert all(math.isnan(value) for value in ranks(torch.full((4, 3), torch.nan)).values())
