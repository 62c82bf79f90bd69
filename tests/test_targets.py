"""Temporal-difference targets against values worked out by hand."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sndqn import targets

REWARD = torch.tensor([1.0, -2.0, 0.5])
DISCOUNT = torch.tensor([0.9, 0.9, 0.0])  # the last transition ended its episode
NEXT_TARGET = torch.tensor([[1.0, 3.0], [-4.0, -5.0], [7.0, 8.0]])
NEXT_ONLINE = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]])


def test_q_learning_by_hand() -> None:
    found = targets.q_learning(REWARD, DISCOUNT, NEXT_TARGET)
    torch.testing.assert_close(found, torch.tensor([3.7, -5.6, 0.5]))


def test_double_q_learning_values_the_online_networks_choice_by_hand() -> None:
    found = targets.double_q_learning(REWARD, DISCOUNT, NEXT_TARGET, NEXT_ONLINE)
    torch.testing.assert_close(found, torch.tensor([1.9, -6.5, 0.5]))


def draw(seed: int, batch: int, actions: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    reward, next_q = (
        torch.randn(batch, generator=generator),
        torch.randn(2, batch, actions, generator=generator),
    )
    return reward, torch.rand(batch, generator=generator), next_q[0], next_q[1]


cases = st.builds(draw, st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 5))


@given(cases)
def test_a_double_target_is_never_above_the_plain_one(case: tuple[Tensor, ...]) -> None:
    reward, discount, target, online = case
    plain = targets.q_learning(reward, discount, target)
    double = targets.double_q_learning(reward, discount, target, online)
    assert plain.shape == double.shape == reward.shape
    assert bool((double <= plain).all())


@given(cases)
def test_equal_networks_make_the_two_targets_equal(case: tuple[Tensor, ...]) -> None:
    reward, discount, target, _ = case
    assert torch.equal(
        targets.double_q_learning(reward, discount, target, target),
        targets.q_learning(reward, discount, target),
    )


@given(cases)
def test_the_end_of_an_episode_leaves_the_reward_alone(case: tuple[Tensor, ...]) -> None:
    reward, discount, target, online = case
    zero = torch.zeros_like(discount)
    assert torch.equal(targets.q_learning(reward, zero, target), reward)
    assert torch.equal(targets.double_q_learning(reward, zero, target, online), reward)
