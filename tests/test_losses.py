"""Losses against values worked out by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sndqn.losses import LOSSES, huber, mse

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
