"""Returns as they were played out: a sum over each episode, and the bias against them by hand."""

import math
from typing import Any

import numpy as np
import pytest

from sndqn.diagnostics.returns import Played, action_swaps, played_out, q_bias


def games(seed: int = 0) -> Played:
    draw = np.random.default_rng(seed)
    shape = (60, 3)
    ends = draw.random(shape) < 0.15
    truncated = ends & (draw.random(shape) < 0.4)
    return Played(draw.standard_normal(shape), draw.integers(0, 3, shape), ends, truncated)


def forwards(played: Played, step: int, env: int, gamma: float) -> float:
    """The discounted rewards from a step on, played forwards to the end."""
    total, discount = 0.0, 1.0
    for t in range(step, len(played.rewards)):
        total += discount * float(played.rewards[t, env])
        discount *= gamma
        if played.ends[t, env]:
            return math.nan if played.truncated[t, env] else total
    return math.nan


def test_returns_are_those_of_playing_each_step_to_its_end() -> None:
    played = games()
    found = played_out(played, 0.9)
    expected = [[forwards(played, t, e, 0.9) for e in range(3)] for t in range(60)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert 0 < np.isnan(found).mean() < 1


def test_episodes_under_way_or_cut_are_left_out() -> None:
    rewards, actions = np.ones((6, 1)), np.zeros((6, 1), int)
    ends = np.array([0, 1, 0, 1, 0, 0], bool)[:, None]
    truncated = np.array([0, 0, 0, 1, 0, 0], bool)[:, None]
    found = played_out(Played(rewards, actions, ends, truncated), 0.5)[:, 0]
    np.testing.assert_array_equal(found, [1.5, 1.0, math.nan, math.nan, math.nan, math.nan])


def test_the_bias_is_mean_and_deviation_of_q_minus_return() -> None:
    draw = np.random.default_rng(0)
    values, returns = draw.standard_normal(50) + 3, draw.standard_normal(50) - 2
    differences = [v - g for v, g in zip(values.tolist(), returns.tolist(), strict=True)]
    mean = sum(differences) / 50
    std = math.sqrt(sum((d - mean) ** 2 for d in differences) / 50)
    assert q_bias(values, returns) == pytest.approx(
        {
            "q_bias_mean": mean,
            "q_bias_std": std,
            "q_bias_relative": mean / abs(sum(returns.tolist()) / 50),
            "q_bias_states": 50,
        }
    )


def test_without_episodes_there_is_no_bias_and_without_returns_no_relative_one() -> None:
    assert q_bias(np.zeros(0), np.zeros(0)) == {}
    assert "q_bias_relative" not in q_bias(np.ones(2), np.zeros(2))


def test_swaps_are_counted_within_episodes() -> None:
    played = games(1)
    swaps = steps = 0
    for env in range(3):
        for t in range(59):
            if not played.ends[t, env]:
                steps += 1
                swaps += int(played.actions[t + 1, env] != played.actions[t, env])
    assert action_swaps(played) == swaps / steps
    one: Any = Played(*(part[:1] for part in played))
    assert math.isnan(action_swaps(one))
