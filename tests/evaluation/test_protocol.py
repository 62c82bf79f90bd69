import json
from dataclasses import replace

import numpy as np
import pytest
from recorded_episodes import balance, whim

from sndqn.envs import resolve_env
from sndqn.errors import ConfigError, TraceError
from sndqn.evaluation import EvaluationProtocol, EvaluationRecord, evaluate, replay_trace


@pytest.fixture(scope="module")
def record():
    protocol = EvaluationProtocol(episodes=5, epsilon=0.3, seed=7, max_steps=200)
    return evaluate(resolve_env("CartPole"), balance, protocol, agent_sha256="ab" * 32)


def test_seeds_are_those_of_spawned_children_of_the_protocols_seed():
    protocol = EvaluationProtocol(episodes=4, seed=9)
    children = np.random.SeedSequence(9).spawn(4)
    expected = [int(child.generate_state(1)[0]) % 2**31 for child in children]
    assert [protocol.episode_seed(k) for k in range(4)] == expected
    assert len(set(expected)) == 4


def test_an_evaluation_is_a_pure_function_of_agent_settings_and_protocol(record):
    again = evaluate(resolve_env("CartPole"), balance, record.protocol, agent_sha256="ab" * 32)
    assert again.to_dict() == record.to_dict()
    assert again.traces == record.traces


def test_statistics_are_numpys(record):
    returns = np.array(record.returns)
    assert record.std > 0
    for name in ("mean", "std", "median", "min", "max"):
        assert getattr(record, name) == pytest.approx(getattr(np, name)(returns), rel=1e-12)


@pytest.mark.parametrize("name", ["CartPole", "MinAtar/Breakout", "Breakout"])
def test_every_episode_replays_in_a_fresh_environment(name):
    settings = resolve_env(name)
    q_function = balance if name == "CartPole" else whim(6 if "/" in name else 4)
    protocol = EvaluationProtocol(episodes=3, epsilon=0.1, max_steps=150)
    record = evaluate(settings, q_function, protocol)
    for trace, episode in zip(record.traces, record.episodes, strict=True):
        steps = list(replay_trace(trace))
        assert sum(step.step.reward for step in steps) == episode.episode_return
        assert len(steps) - 1 == episode.length
        assert trace.sha256 == episode.trace_sha256
    assert record.seeds == [protocol.episode_seed(k) for k in range(3)]


def test_how_each_episode_ended_is_told_and_a_cut_ones_reward_counts():
    settings = resolve_env("CartPole")
    full = evaluate(settings, balance, EvaluationProtocol(episodes=1))
    cut = evaluate(settings, balance, EvaluationProtocol(episodes=1, max_steps=60))
    exact = evaluate(settings, balance, EvaluationProtocol(episodes=1, max_steps=500))
    fallen = evaluate(settings, lambda _: np.array([1.0, 0.0]), EvaluationProtocol(episodes=1))
    assert (full.returns, full.lengths, full.ended_by) == ([500.0], [500], ["truncated"])
    assert (cut.returns, cut.lengths, cut.ended_by) == ([60.0], [60], ["max_steps"])
    assert exact.ended_by == ["truncated"]
    assert fallen.ended_by == ["terminated"]


def test_on_episode_is_told_each_trace_in_order():
    told = []
    protocol = EvaluationProtocol(episodes=3, max_steps=5)
    record = evaluate(
        resolve_env("CartPole"),
        balance,
        protocol,
        on_episode=lambda number, trace: told.append((number, trace)),
    )
    assert told == list(enumerate(record.traces))


def test_a_record_is_read_back_from_json(record):
    again = EvaluationRecord.from_dict(json.loads(json.dumps(record.to_dict())))
    assert again.to_dict() == record.to_dict()
    assert again.traces == ()
    assert again.settings == resolve_env("CartPole").to_dict()


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document.update(mean=999.0),
        lambda document: document.update(schema="sndqn-evaluation-2"),
        lambda document: document.update(extra=1),
        lambda document: document.pop("settings"),
        lambda document: document.update(settings=[]),
        lambda document: document.update(episodes=[]),
        lambda document: document["episodes"].pop(),
        lambda document: document["episodes"][0].update(episode_return=500.0),
        lambda document: document["episodes"][0].update(episode_return="many"),
        lambda document: document["episodes"][0].update(seed=1),
        lambda document: document["episodes"][0].update(ended_by="boredom"),
        lambda document: document["protocol"].update(episodes=-1),
        lambda document: document["protocol"].update(episodes=10**15),
        lambda document: document["protocol"].update(seed="x"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(record, edit):
    document = json.loads(json.dumps(record.to_dict()))
    edit(document)
    with pytest.raises(TraceError):
        EvaluationRecord.from_dict(document)


@pytest.mark.parametrize(
    "wrong", [{"episodes": 0}, {"epsilon": 1.5}, {"epsilon": -0.1}, {"seed": -1}, {"max_steps": 0}]
)
def test_a_protocol_out_of_range_is_refused(wrong):
    with pytest.raises(ConfigError, match=f"expected {next(iter(wrong))}"):
        EvaluationProtocol(**wrong)


def test_what_has_no_time_limit_is_cut_and_the_record_says_where():
    settings = resolve_env("CliffWalking")
    up = EvaluationProtocol(episodes=1)
    steps = []
    record = evaluate(
        settings, lambda _: [1.0, 0, 0, 0], up, on_step=lambda *step: steps.append(step)
    )
    assert (record.lengths, record.ended_by) == ([1000], ["max_steps"])
    assert record.protocol == replace(up, max_steps=1000)
    assert steps == [(0, step) for step in range(1, 1001)]
    shorter = evaluate(settings, lambda _: [1.0, 0, 0, 0], replace(up, max_steps=7))
    assert shorter.lengths == [7]
    limited = evaluate(resolve_env("Taxi"), lambda _: [1.0, 0, 0, 0, 0, 0], up)
    assert (limited.lengths, limited.protocol) == ([200], up)
