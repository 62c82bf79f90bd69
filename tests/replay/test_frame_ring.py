"""FrameRing against Stable-Baselines3's buffers: the same batches, to the bit, in less memory."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparison import assert_same_batch, batch, pair
from gymnasium import spaces
from histories import RandomGames
from hypothesis import given, settings
from hypothesis import strategies as st

from sndqn.errors import ConfigError, UnsupportedSpaceError
from sndqn.replay import FrameRing

ACTIONS = spaces.Discrete(3)
ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)


def plain_spaces() -> list[spaces.Space[Any]]:
    return [
        spaces.Box(-9, 9, (4,), np.float32),
        spaces.Box(0, 255, (2, 3, 3), np.uint8),
        spaces.Box(0, 1, (2, 3), np.bool_),
        spaces.Box(0, 1000, (2,), np.uint16),
        spaces.Discrete(5),
        spaces.MultiBinary(6),
        spaces.MultiDiscrete([3, 4]),
    ]


def stacked_spaces(k: int) -> list[spaces.Space[Any]]:
    return [
        spaces.Box(0, 255, (k, 2, 1), np.uint8),
        spaces.Box(0, 255, (2 * k, 1, 2), np.uint8),
        spaces.Box(-9, 9, (2 * k,), np.float32),
        spaces.Box(0, 1, (k, 2), np.bool_),
    ]


@st.composite
def cases(draw: st.DrawFn) -> tuple[RandomGames, dict[str, Any], int]:
    """Games, a buffer's settings and how many steps to play, from none to several rounds."""
    k = draw(st.integers(1, 4))
    games = RandomGames(
        draw(st.sampled_from(plain_spaces() if k == 1 else stacked_spaces(k))),
        n_envs=draw(st.integers(1, 3)),
        frame_stack=k,
        padding=draw(st.sampled_from(["zeros", "repeat"])),
        p_end=draw(st.sampled_from([0.0, 0.02, 0.1, 0.24])),
        seed=draw(st.integers(0, 10**6)),
        n_actions=draw(st.sampled_from([2, 3, 300])),
    )
    for _ in range(draw(st.integers(0, 3))):
        games.step()  # a history may begin within a game
    settings = {
        "frame_stack": k,
        "n_steps": draw(st.sampled_from([1, 1, 2, 3, 7])),
        "gamma": draw(st.sampled_from([0.99, 0.5, 1.0])),
        "handle_timeout_termination": draw(st.booleans()),
    }
    return games, settings, draw(st.integers(1, 40))


@settings(max_examples=300, deadline=None)
@given(cases(), st.data())
def test_batches_are_those_of_sb3_to_the_bit(
    case: tuple[RandomGames, dict[str, Any], int], data: st.DataObject
) -> None:
    games, settings, buffer_size = case
    actions = spaces.Discrete(games.n_actions)
    ring, theirs = pair(buffer_size, games.space, actions, games.n_envs, **settings)
    for seed in range(4):
        for _ in range(data.draw(st.integers(1, 25))):
            step = games.step()
            ring.add(*step)
            theirs.add(*step)
        assert (ring.size(), ring.pos, ring.full) == (theirs.size(), theirs.pos, theirs.full)
        assert_same_batch(ring, theirs, seed)
    assert ring.padding in (None, games.padding)


@pytest.mark.parametrize("padding", ["zeros", "repeat"])
def test_padding_is_learnt_from_a_new_game_and_kept(padding: str) -> None:
    games = RandomGames(stacked_spaces(3)[0], frame_stack=3, padding=padding)
    ring = FrameRing(100, games.space, ACTIONS, "cpu", frame_stack=3)
    assert ring.padding is None
    for _ in range(100):
        ring.add(*games.step())
    assert ring.padding == padding
    ring.reset()
    assert (ring.padding, ring.size(), ring.pos) == (None, 0, 0)


def test_next_observations_are_made_of_real_frames_even_where_nothing_looks() -> None:
    games = RandomGames(spaces.Box(0, 255, (8, 1, 1), np.uint8), 2, 4, p_end=0.2)
    ring = FrameRing(40, games.space, ACTIONS, "cpu", n_envs=2, frame_stack=4)
    ring._stacks.frames.tensor[:-1] = 77  # what was never written
    for _ in range(90):
        ring.add(*games.step())
        assert int(batch(ring, 64, 0).next_observations.max()) <= 1


def test_a_reset_ring_starts_anew() -> None:
    games = RandomGames(spaces.Box(-9, 9, (4,), np.float32), 2, 2, p_end=0.2)
    ring, theirs = pair(20, games.space, ACTIONS, 2, frame_stack=2)
    for _ in range(15):
        ring.add(*games.step())
    assert ring._kept.n_kept > 0
    ring.reset()
    assert ring._kept.n_kept == 0
    with pytest.raises(ValueError, match="high <= 0"):
        ring.sample(1)
    for seed in range(40):
        step = games.step()
        ring.add(*step)
        theirs.add(*step)
        assert_same_batch(ring, theirs, seed)


def test_arrays_given_to_it_may_be_written_over() -> None:
    games = RandomGames(spaces.Box(-9, 9, (4,), np.float32), 2, 2)
    ring, theirs = pair(60, games.space, ACTIONS, 2, frame_stack=2)
    for _ in range(50):
        step = games.step()
        theirs.add(*copy.deepcopy(step))
        ring.add(*step)
        for array in step[:5]:
            array[...] = 1
    assert_same_batch(ring, theirs)


def test_kept_observations_are_recycled() -> None:
    """At most one per transition in the ring, however long the run."""
    games = RandomGames(spaces.Box(-9, 9, (4,), np.float32), p_end=0.24)
    ring = FrameRing(16, games.space, ACTIONS, "cpu")
    for _ in range(500):
        ring.add(*games.step())
        assert ring._kept.n_kept == np.count_nonzero(ring._kept_numbers >= 0)
    assert len(ring._kept.rows) <= 16


def test_an_atari_transition_takes_little_more_than_its_frame() -> None:
    ring = FrameRing(100_000, ATARI, spaces.Discrete(18), "cpu", n_envs=8, frame_stack=4)
    assert 7056 < ring.nbytes_per_transition <= 7080


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_short_run_touches_little_of_a_big_ring() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    ring = FrameRing(1_000_000, ATARI, spaces.Discrete(18), "cpu", frame_stack=4)
    stack = np.zeros((1, 4, 84, 84), np.uint8)
    for _ in range(1000):
        ring.add(stack, stack, np.zeros(1), np.zeros(1), np.zeros(1), [{}])
    ring.sample(32)
    assert resident() - before < 40e6


def test_observations_that_are_no_stacks_are_refused() -> None:
    ring = FrameRing(100, spaces.Box(-9, 9, (4,)), ACTIONS, "cpu", frame_stack=2)
    before, after, no = np.array([[1, 2, 3, 4]]), np.array([[2, 3, 4, 5]]), np.zeros(1)
    with pytest.raises(ConfigError, match=r"frame_stack=2 .* Use frame_stack=1"):
        ring.add(before, after, no, no, no, [{}])
    assert ring.size() == 0


def test_a_game_that_begins_within_a_stack_is_refused() -> None:
    """After a game's end the frames of two games must not be taken for one's."""
    space, no = spaces.Box(0, 255, (3,), np.uint8), np.zeros(1)
    ring = FrameRing(100, space, ACTIONS, "cpu", frame_stack=3)
    ring.add(np.array([[1, 2, 3]]), np.array([[2, 3, 4]]), no, no, np.ones(1), [{}])
    for stack in ([5, 6, 7], [0, 6, 7], [7, 6, 7]):
        with pytest.raises(ConfigError, match="zeros or copies of it"):
            ring.add(np.array([stack]), np.array([[*stack[1:], 8]]), no, no, no, [{}])
    ring.add(np.array([[0, 0, 5]]), np.array([[0, 5, 6]]), no, no, np.ones(1), [{}])
    with pytest.raises(ConfigError, match="first frame after zeros"):
        ring.add(np.array([[7, 7, 7]]), np.array([[7, 7, 8]]), no, no, no, [{}])
    assert ring.size() == 2


@pytest.mark.parametrize(
    ("observations", "actions", "settings", "words"),
    [
        (spaces.Dict({"a": spaces.Discrete(2)}), ACTIONS, {}, "DictReplayBuffer"),
        (spaces.Tuple([spaces.Discrete(2)]), ACTIONS, {}, "MultiBinary"),
        (ATARI, spaces.Box(0, 1, (2,)), {}, "Discrete actions"),
        (ATARI, spaces.Discrete(3, start=1), {}, "counted from 0"),
        (ATARI, ACTIONS, {"frame_stack": 3}, r"frame_stack=3 .* shape \(4, 84, 84\)"),
        (spaces.Box(0, 1, (2,), np.longdouble), ACTIONS, {}, "float32"),
    ],
)
def test_spaces_it_cannot_keep_are_refused_with_what_to_use(
    observations: Any, actions: Any, settings: Any, words: str
) -> None:
    with pytest.raises(UnsupportedSpaceError, match=words):
        FrameRing(10, observations, actions, "cpu", **settings)


@pytest.mark.parametrize("settings", [{"frame_stack": 0}, {"frame_stack": 256}, {"n_steps": 0}])
def test_numbers_out_of_range_are_refused(settings: Any) -> None:
    with pytest.raises(ConfigError, match="expected"):
        FrameRing(10, ATARI, ACTIONS, "cpu", **settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("frame_stack", [1, 4])
def test_a_ring_on_the_gpu_gives_the_same_batches_there(frame_stack: int, n_steps: int) -> None:
    games = RandomGames(spaces.Box(0, 255, (4, 3, 3), np.uint8), 2, frame_stack)
    settings: dict[str, Any] = {"frame_stack": frame_stack, "n_steps": n_steps}
    ring, theirs = pair(50, games.space, ACTIONS, 2, **settings)
    far = FrameRing(50, games.space, ACTIONS, "cuda", 2, **settings)
    for number in range(120):
        step = games.step()
        for buffer in (ring, far, theirs):
            buffer.add(*step)
        if number == 60:
            far = copy.deepcopy(far)
            assert far.device.type == "cuda"
        samples = batch(far, 32, number)
        assert all(value is None or value.is_cuda for value in samples)
        near = type(samples)(*(None if v is None else v.cpu() for v in samples))
        for one, other in zip(near, batch(ring, 32, number), strict=True):
            assert one is other is None or torch.equal(one, other)
    far.device = "cpu"
    assert_same_batch(far, theirs)


def test_a_batch_with_timeouts_lies_in_memory_as_any_other() -> None:
    space = spaces.Box(0, 255, (2, 3, 3), np.uint8)
    ring = FrameRing(50, space, spaces.Discrete(2), "cpu", 1, frame_stack=2)
    frame = np.zeros((1, 2, 3, 3), np.uint8)
    layouts = []
    for ended in (False, True):
        for _ in range(5):
            infos = [{"TimeLimit.truncated": ended}]
            ring.add(frame, frame, np.zeros(1), np.zeros(1), np.array([ended]), infos)
        batch = ring.sample(40)
        layouts.append((batch.observations.stride(), batch.next_observations.stride()))
    assert layouts[0] == layouts[1]
    assert bool((batch.dones == 0).all())
