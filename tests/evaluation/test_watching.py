"""Games as they are watched are those that an evaluation plays."""

from dataclasses import replace

import numpy as np
import pytest
from recorded_episodes import balance, whim

from sndqn.envs import make_env, resolve_env
from sndqn.evaluation import EvaluationProtocol, evaluate, replay_trace
from sndqn.evaluation.watching import play_moments

PROTOCOL = EvaluationProtocol(episodes=2, epsilon=0.1, seed=5, max_steps=40)


@pytest.mark.parametrize(
    ("name", "q_function"),
    [("CartPole", balance), ("MinAtar/Breakout", whim(6)), ("Breakout", whim(4))],
)
def test_a_watched_game_is_the_evaluations_picture_for_picture(name: str, q_function) -> None:  # type: ignore[no-untyped-def]
    settings = resolve_env(name)
    trace = evaluate(settings, q_function, PROTOCOL).traces[1]
    replayed = list(replay_trace(trace, render=True, every_frame=True))
    env = make_env(settings, render_mode="rgb_array")
    moments = list(play_moments(env, settings, q_function, PROTOCOL, 1))
    env.close()
    frames = [frame for each in replayed for frame in (*each.between, each.frame)]
    np.testing.assert_array_equal([moment.frame for moment in moments], frames)
    last = moments[-1]
    assert (last.step, last.ended_by) == (trace.length, trace.ended_by)
    assert last.episode_return == trace.episode_return
    assert last.action is None
    first = {moment.step: moment for moment in reversed(moments)}
    assert [first[step].action for step in range(trace.length)] == trace.actions.tolist()
    for each in replayed:
        values = q_function(each.step.observation)
        np.testing.assert_array_equal(first[each.index].q_values, values)


def test_pictures_between_two_steps_of_atari_belong_to_the_step_before() -> None:
    settings = resolve_env("Breakout")
    env = make_env(settings, render_mode="rgb_array")
    steps = [moment.step for moment in play_moments(env, settings, whim(4), PROTOCOL, 0)]
    assert steps == [0] + [step for k in range(40) for step in (k, k, k, k + 1)]


def test_without_an_agent_actions_are_random_and_have_no_values() -> None:
    settings = resolve_env("MinAtar/Breakout")
    env = make_env(settings, render_mode="rgb_array")
    protocol = replace(PROTOCOL, epsilon=0.0)
    games = [list(play_moments(env, settings, None, protocol, k)) for k in range(20)]
    assert all(moment.q_values is None for game in games for moment in game)
    actions = {moment.action for game in games for moment in game} - {None}
    assert actions == set(range(6))
