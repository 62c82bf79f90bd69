"""Losses against values worked out by hand and against slow loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sndqn.losses import LOSSES, cross_entropy, huber, mse, quantile_huber

numbers = st.floats(-100, 100, width=32)
ERRORS = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])


def test_huber_by_hand() -> None:
    expected = torch.tensor([2.5, 0.5, 0.125, 0.0, 0.125, 0.5, 2.5])
    assert torch.equal(huber(ERRORS, torch.zeros(7)), expected)


def test_mse_by_hand_has_no_half() -> None:
    expected = torch.tensor([9.0, 1.0, 0.25, 0.0, 0.25, 1.0, 9.0])
    assert torch.equal(mse(ERRORS, torch.zeros(7)), expected)


@given(numbers, numbers)
def test_the_gradient_of_huber_is_the_clipped_error(prediction: float, target: float) -> None:
    q = torch.tensor([prediction], requires_grad=True)
    huber(q, torch.tensor([target])).sum().backward()
    assert q.grad is not None
    torch.testing.assert_close(q.grad, torch.tensor([prediction - target]).clamp(-1, 1))


@pytest.mark.parametrize("name", LOSSES)
@given(prediction=numbers, target=numbers)
def test_losses_are_symmetric_not_negative_and_zero_only_without_error(
    name: str, prediction: float, target: float
) -> None:
    loss = LOSSES[name]
    one, other = torch.tensor([prediction]), torch.tensor([target])
    assert torch.equal(loss(one, other), loss(other, one))
    assert float(loss(one, other)) >= 0
    assert float(loss(one, one)) == 0


@pytest.mark.parametrize("name", LOSSES)
def test_losses_give_one_value_per_sample(name: str) -> None:
    assert LOSSES[name](torch.zeros(5), torch.ones(5)).shape == (5,)


def test_cross_entropy_by_hand() -> None:
    # Logits ln 1, ln 2, ln 1 are chances ¼, ½, ¼: -½ ln ¼ - ½ ln ½ = 1½ ln 2; -ln ¼ = 2 ln 2.
    logits = torch.tensor([[1.0, 2.0, 1.0], [3.0, 6.0, 3.0]]).log()
    target = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    expected = torch.tensor([1.5, 2.0]) * math.log(2)
    torch.testing.assert_close(cross_entropy(logits, target), expected)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 9))
def test_the_gradient_of_cross_entropy_is_the_excess_probability(
    seed: int, batch: int, n_atoms: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, other = 3 * torch.randn(2, batch, n_atoms, generator=generator, dtype=torch.float64)
    target = other.softmax(dim=1)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(logits, target).sum(), logits)
    torch.testing.assert_close(gradient, logits.softmax(dim=1) - target)


def test_cross_entropy_of_logits_far_apart_is_finite() -> None:
    logits = torch.tensor([[0.0, 1e4, -1e4]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([[0.0, 0.0, 1.0]]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(2e4)
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())


def test_quantile_huber_by_hand() -> None:
    # κ = 1. Prediction 0 at τ = ¼ against (1, 3): δ = 1, 3; L = ½, 2½; ¼ of each: mean 0.375.
    # Prediction 2 at τ = ¾: δ = -1, 1; L = ½, ½; weights |¾ - 1| and ¾: 0.125, 0.375, mean 0.25.
    prediction, target = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0]])
    found = quantile_huber(prediction, target, torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(found, torch.tensor([0.625]))


def test_quantile_huber_with_another_threshold_by_hand() -> None:
    # κ = 2, τ = ¼. δ = 1: L = ½, δ = 3: L = 2 (3 - 1) = 4, δ = -4: L = 2 (4 - 1) = 6.
    # (¼ · ½ + ¼ · 4 + ¾ · 6) / 2 / 3 = 5.625 / 6.
    prediction, target = torch.tensor([[0.0]]), torch.tensor([[1.0, 3.0, -4.0]])
    found = quantile_huber(prediction, target, torch.tensor([0.25]), threshold=2.0)
    torch.testing.assert_close(found, torch.tensor([5.625 / 6]))


def quantile_huber_by_loops(
    prediction: Tensor, target: Tensor, fractions: Tensor, threshold: float
) -> list[float]:
    result = []
    for b in range(len(prediction)):
        total = 0.0
        for i in range(prediction.shape[1]):
            tau = float(fractions[i] if fractions.ndim == 1 else fractions[b, i])
            for j in range(target.shape[1]):
                error = float(target[b, j]) - float(prediction[b, i])
                if abs(error) <= threshold:
                    loss = 0.5 * error**2
                else:
                    loss = threshold * (abs(error) - 0.5 * threshold)
                total += abs(tau - (error < 0)) * loss / threshold / target.shape[1]
        result.append(total)
    return result


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "per_sample"])
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)),
    threshold=st.sampled_from([0.3, 1.0, 2.5]),
)
def test_quantile_huber_is_the_papers_sum_over_pairs(
    shared: bool, seed: int, sizes: tuple[int, int, int], threshold: float
) -> None:
    (batch, n, m), generator = sizes, torch.Generator().manual_seed(seed)
    prediction = 2 * torch.randn(batch, n, generator=generator, dtype=torch.float64)
    target = 2 * torch.randn(batch, m, generator=generator, dtype=torch.float64)
    target[:, 0] = prediction[:, 0]  # no error at all is one of the cases
    fractions = torch.rand(batch, n, generator=generator, dtype=torch.float64)
    if shared:
        fractions = fractions[0]
    found = quantile_huber(prediction, target, fractions, threshold)
    expected = quantile_huber_by_loops(prediction, target, fractions, threshold)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_the_gradient_of_quantile_huber_is_the_clipped_error_by_its_weight(
    threshold: float,
) -> None:
    prediction = torch.zeros(1, 1, requires_grad=True)
    for error in (-3.0, -0.25, 0.25, 3.0):
        loss = quantile_huber(prediction, torch.tensor([[error]]), torch.tensor([0.3]), threshold)
        (gradient,) = torch.autograd.grad(loss.sum(), prediction)
        weight = 0.3 if error > 0 else 0.7
        clipped = min(max(error / threshold, -1), 1)
        assert float(gradient) == pytest.approx(-weight * clipped)


def test_quantiles_of_the_samples_are_where_the_gradient_vanishes() -> None:
    # Samples of the exponential distribution, whose quantile at τ is -ln(1 - τ), at even chances.
    n_samples = 2000
    chances = (torch.arange(n_samples, dtype=torch.float64) + 0.5) / n_samples
    fractions = torch.tensor([0.05, 0.3, 0.5, 0.9], dtype=torch.float64)
    quantiles, samples = -torch.log1p(-fractions)[None], -torch.log1p(-chances)[None]

    def slope(prediction: Tensor) -> Tensor:
        prediction = prediction.clone().requires_grad_()
        loss = quantile_huber(prediction, samples, fractions, threshold=1e-3)
        return torch.autograd.grad(loss.sum(), prediction)[0]

    # dL/dq = F(q) - τ, up to the samples within κ of q.
    assert float(slope(quantiles).abs().max()) < 2e-3
    assert bool((slope(quantiles + 0.05) > 4e-3).all())
    assert bool((slope(quantiles - 0.05) < -4e-3).all())
