"""How many directions features take up, by five definitions that do not agree."""

import torch
from torch import Tensor

# What Kumar et al. leave out of the sum, and Lyle et al. of the count.
_DELTA, _EPSILON = 0.01, 0.01


def ranks(features: Tensor) -> dict[str, float]:
    """Computes ranks of features Φ, (batch, d), from singular values in float64.

    With s the singular values of Φ, largest first, and n the batch:

    - srank: the fewest that make up 99 % of the sum of all (Kumar et al., arXiv 2010.14498);
    - feature_rank: how many of Φ/√n are above 0.01 (Lyle et al., arXiv 2204.09560). It depends on
      the scale of the features, which SN moves;
    - relative_rank: how many are above a hundredth of the largest;
    - stable_rank: the sum of squares over the largest's square;
    - entropy_rank: e to the entropy of s / Σs (Roy and Vetterli, EUSIPCO 2007).

    None is above the smaller of n and d: a batch of fewer than some 4 d rows caps them. Features
    that are all zero have rank 0; ones that are not finite NaN.
    """
    names = ("srank", "feature_rank", "relative_rank", "stable_rank", "entropy_rank")
    phi = features.detach().cpu().double()
    if not bool(torch.isfinite(phi).all()):
        return dict.fromkeys(names, float("nan"))
    s = torch.linalg.svdvals(phi)
    total = s.sum()
    if not float(total) > 0:
        return dict.fromkeys(names, 0.0)
    shares = s / total
    srank = 1 + int((shares.cumsum(0) < 1 - _DELTA).sum())
    entropy = -torch.xlogy(shares, shares).sum()
    found = (
        srank,
        int((s / len(phi) ** 0.5 > _EPSILON).sum()),
        int((s / s[0] > _EPSILON).sum()),
        float((s / s[0]).square().sum()),
        float(entropy.exp()),
    )
    return dict(zip(names, map(float, found), strict=True))
