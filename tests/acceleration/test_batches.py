"""Batches hold what the sample they come from held."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sndqn.acceleration.batches import FixedSamples, widened
from sndqn.replay import Batch, split


def sample(n: int, seed: int, *, weights: bool = False) -> Batch:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (2, n, 3, 4, 4), np.uint8)
    return Batch(
        observations=torch.from_numpy(images[0]),
        actions=torch.from_numpy(random.integers(0, 5, (n, 1))),
        next_observations=torch.from_numpy(images[1]),
        dones=torch.from_numpy(random.integers(0, 2, (n, 1)).astype(np.float32)),
        rewards=torch.from_numpy(random.normal(size=(n, 1)).astype(np.float32)),
        weights=torch.rand(n, 1) if weights else None,
    )


@given(st.integers(1, 5), st.integers(1, 6), st.booleans(), st.booleans())
def test_batches_on_fixed_memory_are_those_of_split(
    size: int, n_batches: int, weights: bool, widen: bool
) -> None:
    n = size * n_batches
    fixed = FixedSamples(sample(n, 0, weights=weights), n_batches, widen=widen)
    addresses = [[None if t is None else t.data_ptr() for t in b] for b in fixed.batches]
    for seed in (0, 1, 2):
        samples = sample(n, seed, weights=weights)
        assert fixed.fit(samples)
        fixed.load(samples)
        for own, expected in zip(fixed.batches, split(samples, size), strict=True):
            for name, value in expected._asdict().items():
                found = getattr(own, name)
                if value is None:
                    assert found is None, name
                    continue
                assert torch.equal(found.to(value.dtype), value), name
                is_wide = widen and "observations" in name
                assert found.dtype == (torch.float32 if is_wide else value.dtype), name
    assert addresses == [[None if t is None else t.data_ptr() for t in b] for b in fixed.batches]


def test_other_samples_do_not_fit_and_theirs_stay_as_they_were() -> None:
    first = sample(8, 0)
    fixed = FixedSamples(first, 2)
    first.rewards.fill_(100)
    assert float(fixed.batches[0].rewards.max()) < 100, "memory of its own"
    others: list[Any] = [
        sample(4, 0),
        sample(8, 0, weights=True),
        first._replace(rewards=first.rewards.double()),
        first._replace(actions=first.actions.flatten()),
    ]
    assert not any(map(fixed.fit, others))


@pytest.mark.parametrize("bytes_are_slow", [True, False])
def test_bytes_become_floats_where_compiled_code_is_slow_at_it_and_nothing_else_does(
    bytes_are_slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sndqn.acceleration.batches._BYTES_ARE_SLOW", bytes_are_slow)
    numbers = torch.arange(256, dtype=torch.uint8)
    assert widened(numbers).dtype == (torch.float32 if bytes_are_slow else torch.uint8)
    assert torch.equal(widened(numbers).long(), torch.arange(256))
    actions = torch.arange(3)
    assert widened(actions) is actions
