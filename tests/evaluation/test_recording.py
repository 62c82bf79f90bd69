import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from recorded_episodes import record

from sndqn.envs import make_env, resolve_env, settings_from_dict
from sndqn.errors import MissingExtraError, RenderingError, TraceError, TrainingError
from sndqn.evaluation import (
    record_trace,
    rendering_of,
    replay_trace,
    version_differences,
    write_trace,
)
from sndqn.evaluation.fingerprints import fingerprint

REPLAY = """
import json, sys
from pathlib import Path
from sndqn.evaluation import read_trace, replay_trace
for name in sys.argv[1:]:
    trace = read_trace(Path(name))
    steps = list(replay_trace(trace, render=True))
    print(json.dumps([
        sum(step.step.reward for step in steps),
        len(steps) - 1,
        sorted({step.frame.shape for step in steps}),
        sorted({str(step.frame.dtype) for step in steps}),
        len({step.frame.tobytes() for step in steps}),
    ]))
"""

EPISODES = {
    "CartPole": ("CartPole", {}),
    "CartPole to its limit": ("CartPole", {"max_steps": 1000}),
    "Acrobot": ("Acrobot-v1", {}),
    "MinAtar Breakout": ("MinAtar/Breakout", {}),
    "MinAtar Seaquest": ("MinAtar/Seaquest", {}),
    "Breakout": ("Breakout", {}),
    "Breakout, whole game": ("Breakout", {"max_steps": 5000}),
    "Breakout, sticky": ("Breakout", {"sticky_actions": 0.25}),
    "Pong": ("Pong", {}),
    "Pong, sticky": ("Pong", {"sticky_actions": 0.25}),
}


def replay(trace):
    return list(replay_trace(trace))


def edited(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def test_episodes_replay_in_another_process_in_full_size_colour(tmp_path):
    traces, paths = {}, []
    for number, (label, (name, options)) in enumerate(EPISODES.items()):
        traces[label] = record(name, seed=number, **options)
        paths.append(tmp_path / f"{number}.trace.json")
        write_trace(paths[-1], traces[label])
    command = [sys.executable, "-W", "error", "-c", REPLAY, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    replays = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    shapes = {"CartPole": [400, 600, 3], "MinAtar": [10, 10, 3]}
    atari = [210, 160, 3]
    for (label, trace), replayed in zip(traces.items(), replays, strict=True):
        episode_return, length, sizes, dtypes, distinct = replayed
        assert (episode_return, length) == (trace.episode_return, trace.length), label
        if "Acrobot" not in label:
            assert sizes == [shapes.get(label.split()[0], atari)], label
        assert dtypes == ["uint8"]
        assert distinct > 5, label
    assert traces["CartPole to its limit"].ended_by == "truncated"
    assert traces["Breakout, whole game"].ended_by == "terminated"
    assert traces["Pong"].ended_by == "max_steps"


def seen(trace):
    """Everything the environment answers to a trace's actions, found without the replay."""
    env = make_env(settings_from_dict(trace.settings))
    observation, _ = env.reset(seed=trace.seed)
    answers = [observation.tobytes()]
    for action in trace.actions.tolist():
        observation, reward, terminated, truncated, _ = env.step(action)
        answers.append((observation.tobytes(), float(reward), terminated, truncated))
        if terminated or truncated:
            break
    env.close()
    return answers


@pytest.mark.parametrize(("name", "changes"), [("Breakout", 4), ("MinAtar/Breakout", 12)])
def test_a_changed_action_is_refused_exactly_if_the_environment_shows_it(name, changes):
    trace = record(name, max_steps=30, sticky_actions=0.0)
    refused = 0
    for index in range(changes):
        action = (int(trace.actions[index]) + 2) % 4
        forged = replace(trace, actions=edited(trace.actions, index, action))
        if seen(forged) == seen(trace):
            replay(forged)
        else:
            refused += 1
            with pytest.raises(TraceError, match=r"step \d+: recorded"):
                replay(forged)
    assert refused >= 3


def test_every_changed_action_of_cartpole_is_refused_at_its_step(cartpole_trace):
    for index in range(cartpole_trace.length):
        actions = edited(cartpole_trace.actions, index, 1 - cartpole_trace.actions[index])
        with pytest.raises(TraceError, match=f"step {index + 1}: recorded observation"):
            replay(replace(cartpole_trace, actions=actions))


def test_a_changed_reward_is_refused_with_step_and_both_numbers(breakout_trace):
    rewards = edited(breakout_trace.rewards, 16, 1.0)
    message = "step 17: recorded reward 1, the environment gave 0"
    with pytest.raises(TraceError, match=message):
        replay(replace(breakout_trace, rewards=rewards))


def test_a_changed_seed_is_refused(breakout_trace, minatar_trace, cartpole_trace):
    for trace in (breakout_trace, minatar_trace, cartpole_trace):
        with pytest.raises(TraceError, match=r"step \d+: recorded"):
            replay(replace(trace, seed=trace.seed + 1))


@pytest.mark.parametrize(
    "change",
    [
        {"game": "pong"},
        {"frame_skip": 3},
        {"sticky_actions": 0.0},
        {"noop_max": 0},
        {"full_action_space": True},
        {"screen_size": 83},
        {"frame_stack": 3},
        {"max_frames": 400},
    ],
    ids=str,
)
def test_a_changed_setting_is_refused(breakout_trace, change):
    with pytest.raises(TraceError, match=r"step \d+: recorded"):
        replay(replace(breakout_trace, settings={**breakout_trace.settings, **change}))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"suite": "nintendo"},
        {"suite": "atari", "game": "no_such_game"},
        {"suite": "atari", "game": "../../etc/passwd"},
        {"suite": "atari", "frame_skip": "4"},
        {"suite": "minatar", "game": 7},
        {"suite": "control", "env_id": "NoSuchThing-v0"},
        {"suite": "control", "env_id": "os:system"},
        {"suite": "control", "env_id": "Pendulum-v1"},
        {"suite": ["control"]},
        {"suite": "control", "colour": "red"},
    ],
    ids=str,
)
def test_settings_of_no_environment_are_refused(cartpole_trace, settings):
    with pytest.raises(TraceError, match="expected the settings of an environment"):
        replay(replace(cartpole_trace, settings=settings))


def test_an_action_the_environment_does_not_have_is_refused(cartpole_trace):
    actions = edited(cartpole_trace.actions, 4, 9)
    with pytest.raises(TraceError, match="step 5: recorded action 9, the environment has 2"):
        replay(replace(cartpole_trace, actions=actions))


def test_an_episode_that_ends_later_than_recorded_is_refused(minatar_trace):
    assert minatar_trace.ended_by == "terminated"
    cut = replace(
        minatar_trace,
        actions=minatar_trace.actions[:-1],
        rewards=minatar_trace.rewards[:-1],
        fingerprints=minatar_trace.fingerprints[:-1],
    )
    with pytest.raises(TraceError, match=r"recorded the episode terminated, .* no end"):
        replay(cut)
    assert len(replay(replace(cut, ended_by="max_steps"))) == cut.length + 1


def test_an_episode_that_ends_earlier_than_recorded_is_refused(minatar_trace):
    longer = replace(
        minatar_trace,
        actions=np.append(minatar_trace.actions, 0),
        rewards=np.append(minatar_trace.rewards, 0),
        fingerprints=np.append(minatar_trace.fingerprints, minatar_trace.fingerprints[-1]),
    )
    last = minatar_trace.length
    with pytest.raises(TraceError, match=f"step {last}: recorded no end of the episode, "):
        replay(longer)


def test_how_an_episode_ended_cannot_be_changed(minatar_trace, cartpole_trace):
    for trace, ended_by in (
        (minatar_trace, "truncated"),
        (minatar_trace, "max_steps"),
        (cartpole_trace, "terminated"),
    ):
        with pytest.raises(TraceError, match=f"step {trace.length}: recorded"):
            replay(replace(trace, ended_by=ended_by))


def test_exact_fingerprints_cannot_be_swapped_for_close_ones(breakout_trace):
    sums = breakout_trace.fingerprints.astype(np.float32)
    with pytest.raises(TraceError, match="step 0: recorded observation"):
        replay(replace(breakout_trace, fingerprints=sums))


def test_the_last_bits_of_float_observations_may_differ(cartpole_trace):
    close = cartpole_trace.fingerprints * np.float32(1 + 1e-6)
    assert len(replay(replace(cartpole_trace, fingerprints=close))) == cartpole_trace.length + 1
    with pytest.raises(TraceError, match="step 0"):
        replay(replace(cartpole_trace, fingerprints=cartpole_trace.fingerprints + 0.001))


def test_replay_yields_what_was_played_and_frames_only_on_request(minatar_trace):
    steps = replay(minatar_trace)
    assert [step.index for step in steps] == list(range(minatar_trace.length + 1))
    assert [step.step.action for step in steps[1:]] == minatar_trace.actions.tolist()
    assert all(step.frame is None for step in steps)


def test_other_package_versions_are_told(cartpole_trace):
    assert version_differences(cartpole_trace) == []
    versions = {**cartpole_trace.versions, "gymnasium": "0.1", "nothing": "2", "": "3"}
    lines = version_differences(replace(cartpole_trace, versions=versions))
    assert len(lines) == 3
    assert "recorded with gymnasium 0.1, installed is" in lines[1]


def test_fingerprints_of_integers_are_exact_and_of_floats_are_sums():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    changed = pixels.copy()
    changed[2, 3] ^= 1
    assert fingerprint(pixels) != fingerprint(changed)
    assert fingerprint(pixels).dtype == np.uint32
    assert fingerprint(np.asfortranarray(pixels)) == fingerprint(pixels)
    assert fingerprint(np.array([0.5, 0.25])) == np.float32(0.75)


def test_fingerprints_of_nested_observations_do_not_depend_on_the_order_of_keys():
    a, b = np.array([1, 2]), np.array([3, 4])
    assert fingerprint({"a": a, "b": b}) == fingerprint({"b": b, "a": a})
    assert fingerprint({"a": a, "b": b}) != fingerprint({"a": b, "b": a})
    assert fingerprint((a, np.array([0.5]))) == np.float32(3.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_observations_that_are_not_finite_cannot_be_recorded(value):
    with pytest.raises(TraceError, match="finite"):
        fingerprint(np.array([value, 0.0]))


@pytest.mark.parametrize(
    ("metadata", "fps"),
    [
        ({"render_modes": ["rgb_array"]}, 30),
        ({"render_modes": ["rgb_array"], "render_fps": None}, 30),
        ({"render_modes": ["rgb_array"], "render_fps": 0}, 30),
        ({"render_modes": ["rgb_array"], "render_fps": 12.5}, 12.5),
    ],
)
def test_an_environment_that_names_no_speed_is_watched_at_thirty_frames(metadata, fps):
    with drawn_as(metadata, lambda env: np.zeros((8, 8, 3), np.uint8)) as trace:
        assert rendering_of(trace).fps == fps
        assert [step.frame.shape for step in replay_trace(trace, render=True)] == [(8, 8, 3)] * 4


@pytest.mark.parametrize("metadata", [{"render_modes": []}, {"render_modes": ["human", "ansi"]}])
def test_an_environment_that_cannot_be_drawn_is_refused(metadata):
    with (
        drawn_as(metadata, lambda env: None) as trace,
        pytest.raises(RenderingError, match="Drawn-v0 cannot be drawn: expected the render mode"),
    ):
        rendering_of(trace)


def test_what_fails_while_it_draws_is_named():
    def needs_a_package(env):
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

    def fails(env):
        raise ValueError("no light")

    metadata = {"render_modes": ["rgb_array"]}
    for render, error, words in (
        (needs_a_package, MissingExtraError, "to be drawn: pygame is not installed"),
        (fails, RenderingError, "Drawn-v0 cannot be drawn: ValueError: no light"),
    ):
        with drawn_as(metadata, render) as trace, pytest.raises(error, match=words):
            list(replay_trace(trace, render=True))


def test_an_environment_that_fails_in_an_evaluation_is_named():
    env = make_env("CartPole")
    env.unwrapped.reset = lambda **_: 1 / 0
    with pytest.raises(TrainingError, match="CartPole-v1 failed: ZeroDivisionError: division"):
        record_trace(env, resolve_env("CartPole"), lambda _: np.zeros(2), seed=0, epsilon=0.0)


@contextmanager
def drawn_as(metadata, render):
    """Gives the trace of a registered environment with this metadata, three steps long."""

    class Drawn(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def __init__(self, render_mode=None):
            self.render_mode = render_mode

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.t = 0
            return np.zeros(2, np.float32), {}

        def step(self, action):
            self.t += 1
            return np.zeros(2, np.float32), 1.0, self.t == 3, False, {}

    Drawn.metadata, Drawn.render = metadata, render
    gymnasium.register("Drawn-v0", Drawn)
    try:
        settings = resolve_env("Drawn-v0")
        env = make_env(settings)
        yield record_trace(env, settings, lambda _: np.zeros(2), seed=0, epsilon=0.0)
    finally:
        gymnasium.registry.pop("Drawn-v0")
