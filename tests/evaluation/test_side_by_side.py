"""What is played beside an episode does not show in it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from recorded_episodes import whim

from sndqn.envs import make_env, resolve_env
from sndqn.errors import ConfigError, TraceError, UnsupportedSpaceError
from sndqn.evaluation import (
    EvaluationProtocol,
    EvaluationRecord,
    evaluate,
    record_trace,
    replay_trace,
)
from sndqn.evaluation.remarks import longest, remarks
from sndqn.evaluation.values import NetworkValues, one_thread
from sndqn.networks import make_q_network

ALGORITHMS = {
    "dqn": "linear",
    "c51": "categorical",
    "qr-dqn": "quantile",
    "iqn": "implicit_quantile",
}


def network_values(settings: Any, head: Any = "linear") -> NetworkValues:
    torch.manual_seed(0)
    env = make_env(settings)
    network = make_q_network(
        env.observation_space, env.action_space, head=head, net_arch=(64,), sn_layers="-2"
    )
    env.close()
    return NetworkValues(network.eval())


def played(
    settings: Any, agent: Any, protocol: EvaluationProtocol, n_envs: int
) -> EvaluationRecord:
    record = evaluate(settings, agent, protocol, n_envs=n_envs)
    assert [trace.sha256 for trace in record.traces] == [
        episode.trace_sha256 for episode in record.episodes
    ]
    return record


GAMES: dict[str, tuple[dict[str, Any], int | None]] = {
    "MinAtar/Breakout": ({"sticky_actions": 0.1}, 200),
    "CartPole": ({}, None),
    "Breakout": ({"sticky_actions": 0.25}, 25),
}


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        # A seeded reset of Atari takes a tenth of a second.
        pytest.param(name, algorithm, marks=pytest.mark.slow)
        if name == "Breakout" and algorithm != "dqn"
        else (name, algorithm)
        for name in GAMES
        for algorithm in ALGORITHMS
    ],
)
def test_records_are_equal_for_1_3_and_10_environments(name: str, algorithm: str) -> None:
    changes, max_steps = GAMES[name]
    settings = replace(resolve_env(name), **changes)
    agent = network_values(settings, ALGORITHMS[algorithm])
    protocol = EvaluationProtocol(episodes=11, epsilon=0.1, seed=4, max_steps=max_steps)
    records = [played(settings, agent, protocol, n_envs) for n_envs in (1, 3, 10)]
    assert records[0].to_dict() == records[1].to_dict() == records[2].to_dict()
    assert records[0].traces == records[1].traces == records[2].traces
    assert len(set(records[0].traces)) == 11


def test_games_in_which_fire_is_pressed_for_the_agent_are_equal_too() -> None:
    settings = resolve_env("Breakout", protocol="sb3")
    protocol = EvaluationProtocol(episodes=4, epsilon=0.1, max_steps=60)
    records = [played(settings, whim(4), protocol, n_envs) for n_envs in (1, 3)]
    assert records[0].traces == records[1].traces
    for _ in replay_trace(records[1].traces[2]):
        pass


def test_an_episode_played_alone_is_the_one_of_the_evaluation() -> None:
    settings = resolve_env("MinAtar/SpaceInvaders")
    agent = network_values(settings)
    protocol = EvaluationProtocol(episodes=5, epsilon=0.05, max_steps=150)
    record = played(settings, agent, protocol, 5)
    env = make_env(settings)
    with one_thread():
        for number in (3, 0):
            seed = protocol.episode_seed(number)
            alone = record_trace(env, settings, agent, seed=seed, epsilon=0.05, max_steps=150)
            assert alone == record.traces[number]


def test_each_step_and_each_end_is_reported_with_the_episodes_number() -> None:
    steps: dict[int, list[int]] = {number: [] for number in range(7)}
    ends: list[int] = []
    record = evaluate(
        resolve_env("CartPole"),
        lambda _: np.zeros(2),
        EvaluationProtocol(episodes=7),
        n_envs=3,
        on_step=lambda number, step: steps[number].append(step),
        on_episode=lambda number, trace: ends.append(number),
    )
    assert sorted(ends) == list(range(7))
    assert ends != sorted(ends)
    assert [steps[k] for k in range(7)] == [list(range(1, n + 1)) for n in record.lengths]


def test_an_agent_of_another_environment_is_refused() -> None:
    with pytest.raises(UnsupportedSpaceError, match="expected one Q-value per action"):
        evaluate(resolve_env("CartPole"), lambda _: np.zeros(3), EvaluationProtocol(episodes=5))


def wait(observation: Any) -> np.ndarray:
    """An agent of Breakout that does nothing."""
    return np.array([1.0, 0.0, 0.0, 0.0])


BREAKOUT = resolve_env("Breakout")


@pytest.fixture(scope="module")
def hopeless() -> EvaluationRecord:
    protocol = EvaluationProtocol(episodes=2, max_steps=1000, end_hopeless=True)
    return evaluate(BREAKOUT, wait, protocol)


def test_a_game_in_which_nothing_happens_for_a_minute_is_ended_if_that_is_wanted(
    hopeless: EvaluationRecord,
) -> None:
    assert hopeless.ended_by == ["hopeless"] * 2
    assert all(900 <= length < 910 for length in hopeless.lengths)
    plain = evaluate(BREAKOUT, wait, replace(hopeless.protocol, end_hopeless=False, episodes=1))
    assert (plain.ended_by, plain.lengths) == (["max_steps"], [1000])


def test_a_hopeless_game_replays_and_is_refused_if_it_was_not_or_ended_otherwise(
    hopeless: EvaluationRecord,
) -> None:
    trace = hopeless.traces[0]
    assert len(list(replay_trace(trace))) == trace.length + 1
    plain = replace(trace, ended_by="max_steps")
    assert len(list(replay_trace(plain))) == trace.length + 1
    shorter = replace(
        trace,
        actions=trace.actions[:-1],
        rewards=trace.rewards[:-1],
        fingerprints=trace.fingerprints[:-1],
    )
    with pytest.raises(TraceError, match="recorded a minute in which nothing happened"):
        list(replay_trace(shorter))


def test_a_game_that_goes_on_by_itself_is_not_hopeless() -> None:
    protocol = EvaluationProtocol(episodes=1, max_steps=950, end_hopeless=True)
    record = evaluate(resolve_env("Pong"), lambda _: np.eye(6)[0], protocol)
    assert record.ended_by != ["hopeless"]
    assert record.lengths[0] > 900 or record.ended_by == ["terminated"]


def test_records_tell_of_the_option_only_where_it_is_on(hopeless: EvaluationRecord) -> None:
    assert "end_hopeless" not in EvaluationProtocol().to_dict()
    document = hopeless.to_dict()
    assert document["protocol"]["end_hopeless"] is True
    assert EvaluationRecord.from_dict(document).to_dict() == document


def test_only_atari_games_can_be_ended_as_hopeless() -> None:
    with pytest.raises(ConfigError, match=r"expected an Atari game, found CartPole-v1"):
        evaluate(resolve_env("CartPole"), wait, EvaluationProtocol(end_hopeless=True))


def test_it_is_said_that_all_games_were_cut_and_fire_was_never_pressed(
    hopeless: EvaluationRecord,
) -> None:
    assert remarks(hopeless, BREAKOUT) == [
        "2 of 2 games were ended as hopeless: for a minute of play nothing but a counter changed "
        "on the screen",
        "Every game was cut: none ended by itself; the agent pressed FIRE never, which some games "
        "wait for",
    ]
    fired = evaluate(BREAKOUT, lambda _: np.eye(4)[1], EvaluationProtocol(episodes=1, max_steps=5))
    assert remarks(fired, BREAKOUT) == ["Every game was cut: none ended by itself"]
    cartpole = resolve_env("CartPole")
    fallen = evaluate(cartpole, lambda _: np.eye(2)[0], EvaluationProtocol(episodes=1))
    assert remarks(fallen, cartpole) == []


def test_the_longest_episode_is_known_where_there_is_a_limit() -> None:
    assert longest(EvaluationProtocol(), BREAKOUT) == 27_000
    assert longest(EvaluationProtocol(max_steps=7), BREAKOUT) == 7
    assert longest(EvaluationProtocol(), resolve_env("MinAtar/Breakout")) is None
