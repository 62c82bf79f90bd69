import itertools

import numpy as np
import pytest

from sndqn.envs import make_env, resolve_env
from sndqn.errors import UnsupportedSpaceError
from sndqn.evaluation.play import play


def actions_of(q_function, *, seed=0, epsilon=0.0, name="CartPole"):
    env = make_env(resolve_env(name))
    steps = list(itertools.islice(play(env, q_function, seed=seed, epsilon=epsilon), 41))
    env.close()
    return [step.action for step in steps[1:]]


def always(*q_values):
    return lambda observation: np.array(q_values)


def test_first_step_is_the_reset():
    env = make_env(resolve_env("CartPole"))
    first = next(play(env, always(0.0, 1.0), seed=5, epsilon=0.0))
    np.testing.assert_array_equal(first.observation, env.reset(seed=5)[0])
    assert (first.action, first.reward, first.q_values) == (None, 0.0, None)


def test_steps_are_those_of_the_environment():
    steps = list(play(make_env(resolve_env("CartPole")), always(0.0, 1.0), seed=5, epsilon=0.0))
    env = make_env(resolve_env("CartPole"))
    env.reset(seed=5)
    for step in steps[1:]:
        observation, reward, terminated, truncated, _ = env.step(step.action)
        np.testing.assert_array_equal(step.observation, observation)
        assert (step.reward, step.terminated, step.truncated) == (reward, terminated, truncated)
    assert steps[-1].terminated


def test_q_values_are_those_of_the_state_the_action_was_chosen_in():
    env = make_env(resolve_env("CartPole"))
    steps = list(play(env, lambda observation: observation[:2] * 10, seed=0, epsilon=0.0))
    for before, after in itertools.pairwise(steps):
        np.testing.assert_array_equal(after.q_values, before.observation[:2] * 10)
        assert after.action == int(np.argmax(before.observation[:2]))


def test_of_equal_values_the_first_wins():
    assert set(actions_of(always(1.0, 1.0))) == {0}


def test_random_actions_follow_from_the_seed_alone():
    first, again, other = (
        actions_of(always(*[0.0] * 6), seed=seed, epsilon=1.0, name="MinAtar/Freeway")
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert len(set(first)) > 2


def test_epsilon_is_the_share_of_random_actions():
    env = make_env(resolve_env("MinAtar/Freeway"))
    taken = [s.action for s in play(env, always(*[1.0, *[0.0] * 5]), seed=0, epsilon=0.3)][1:]
    # A random draw is the greedy action one time in six.
    assert np.mean(np.array(taken) != 0) == pytest.approx(0.3 * 5 / 6, abs=0.03)
    assert len(taken) > 2000


def test_random_actions_are_not_drawn_from_the_stream_that_seeds_the_environment():
    env = make_env(resolve_env("CartPole"))
    shared = np.random.default_rng(11)
    default = [step.action for step in play(env, always(0.0, 1.0), seed=11, epsilon=1.0)]
    env = make_env(resolve_env("CartPole"))
    given = [step.action for step in play(env, always(0.0, 1.0), seed=11, epsilon=1.0, rng=shared)]
    assert default != given


def test_a_q_function_of_another_environment_is_refused():
    with pytest.raises(UnsupportedSpaceError, match=r"shape \(2,\), found \(4,\)"):
        actions_of(always(0.0, 0.0, 0.0, 0.0))


def test_continuous_actions_are_refused():
    import gymnasium as gym

    with pytest.raises(UnsupportedSpaceError, match="discrete"):
        play(gym.make("Pendulum-v1"), always(0.0), seed=0, epsilon=0.0)
