"""Heads: the dueling equation by hand, shapes, names."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sndqn.networks import DuelingHead, linear_head, make_head


def test_a_linear_head_is_hidden_layers_and_one_output_per_action() -> None:
    head = linear_head(5, 3, (7, 6), nn.Tanh)
    kinds = [type(layer) for layer in head]
    assert kinds == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert head(torch.zeros(2, 5)).shape == (2, 3)


def test_dueling_adds_the_value_and_the_centred_advantage() -> None:
    head = DuelingHead(2, 3)
    with torch.no_grad():
        value, advantage = head.streams.value[0], head.streams.advantage[0]
        value.weight.copy_(torch.tensor([[1.0, 2.0]]))
        value.bias.copy_(torch.tensor([0.5]))
        advantage.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        advantage.bias.copy_(torch.tensor([0.0, 0.0, 3.0]))
    # x = (2, 3): V = 2 + 6 + 0.5 = 8.5; A = (2, 3, 8), mean 13 / 3.
    expected = torch.tensor([[8.5 + a - 13 / 3 for a in (2.0, 3.0, 8.0)]])
    torch.testing.assert_close(head(torch.tensor([[2.0, 3.0]])), expected)


@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from([(), (4,), (5, 3)]))
def test_the_mean_over_actions_is_the_value_and_differences_are_the_advantages(
    seed: int, n_actions: int, net_arch: tuple[int, ...]
) -> None:
    torch.manual_seed(seed)
    head, features = DuelingHead(4, n_actions, net_arch), torch.randn(3, 4)
    q_values = head(features)
    value, advantage = head.streams.value(features), head.streams.advantage(features)
    torch.testing.assert_close(q_values.mean(dim=1, keepdim=True), value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        q_values - q_values[:, :1], advantage - advantage[:, :1], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("name", "kind"), [("linear", nn.Sequential), ("dueling", DuelingHead)])
def test_heads_are_made_by_name(name: str, kind: type[nn.Module]) -> None:
    assert isinstance(make_head(name, 4, 2), kind)  # type: ignore[arg-type]
