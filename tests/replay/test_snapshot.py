"""A replay that is saved and restored at any time goes on as one that never was, to the bit."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from histories import RandomGames
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from saving import (
    ACTIONS,
    SPACE,
    STACKS,
    Disk,
    assert_go_on_alike,
    assert_same,
    in_use,
    prioritized,
)
from test_frame_ring import cases

from sndqn.replay import FrameRing, PrioritizedFrameRing
from sndqn.replay.snapshot import finished_chunks, snapshot


@settings(max_examples=120, deadline=None)
@given(cases(), st.sampled_from([FrameRing, PrioritizedFrameRing]), st.integers(1, 7), st.data())
def test_a_ring_interrupted_at_any_time_goes_on_as_one_that_was_not(
    case: tuple[RandomGames, dict[str, Any], int],
    kind: type[FrameRing],
    chunk_slots: int,
    data: st.DataObject,
) -> None:
    games, options, size = case
    actions = spaces.Discrete(games.n_actions)

    def new() -> FrameRing:
        return kind(size, games.space, actions, "cpu", games.n_envs, **options)

    whole, ring, disk = new(), new(), Disk(chunk_slots)
    for _ in range(data.draw(st.integers(1, 5))):
        assert_go_on_alike(whole, ring, games, data.draw(st.integers(0, 25)))
        if data.draw(st.integers(0, 9)) == 0:
            whole.reset()
            ring.reset()
        arrays, scalars = disk.save(ring)
        ring = disk.load(new())
        assert_same(in_use(ring), in_use(whole))
        assert_same(arrays, snapshot(whole, chunk_slots)[0])
        assert scalars == snapshot(whole, chunk_slots)[1]
    assert_go_on_alike(whole, ring, games, 50)
    everything = list(finished_chunks(whole, -1, chunk_slots))
    assert list(finished_chunks(ring, -1, chunk_slots)) == everything


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3), st.integers(1, 7), st.integers(3, 40), st.data())
def test_a_chunk_is_given_once_and_never_changes_as_long_as_its_frames_are_there(
    n_envs: int, chunk_slots: int, size: int, data: st.DataObject
) -> None:
    games = RandomGames(STACKS, n_envs, 4, p_end=0.1)
    ring = FrameRing(size * n_envs, STACKS, ACTIONS, "cpu", n_envs, frame_stack=4)
    disk = Disk(chunk_slots)
    for _ in range(10):
        for _ in range(data.draw(st.integers(0, 12))):
            ring.add(*games.step())
        disk.save(ring)
        again = dict(finished_chunks(ring, -1, chunk_slots))
        assert list(again) == json.loads(disk.text)["chunks"]
        for number, chunk in again.items():
            assert len(chunk) == chunk_slots * n_envs * 4
            # The oldest may have lost frames in the meantime, from its beginning on.
            still_there = chunk.lstrip(b"\0")
            assert disk.chunks[number].endswith(still_there)


def frames_of(ring: FrameRing, start: int, stop: int) -> bytes:
    return ring._stacks.frames.export(stop * ring.n_envs)[start * ring.n_envs :].tobytes()


def test_chunks_are_the_frames_in_order_and_a_snapshot_says_which_it_needs() -> None:
    games = RandomGames(STACKS, 2, 4, p_end=0.0)
    ring = FrameRing(60, STACKS, ACTIONS, "cpu", 2, frame_stack=4)
    steps = [games.step() for _ in range(50)]
    for step in steps[:20]:
        ring.add(*step)
    # 4 frames of the first observation, 19 more, and the one after the newest.
    chunks = dict(finished_chunks(ring, -1, 10))
    assert list(chunks) == [0, 1]
    assert chunks == {0: frames_of(ring, 0, 10), 1: frames_of(ring, 10, 20)}
    arrays, scalars = snapshot(ring, 10)
    assert scalars["chunks"] == [0, 1]
    assert arrays["tail"].tobytes() == frames_of(ring, 20, 24)
    for step in steps[20:]:
        ring.add(*step)
    # 30 observations are left of 50, which reach back to slot 20 of 54.
    assert snapshot(ring, 10)[1]["chunks"] == [2, 3, 4]
    assert [number for number, _ in finished_chunks(ring, 3, 10)] == [4]


def test_slots_are_numbered_on_after_a_reset_so_no_chunk_is_taken_for_an_older_one() -> None:
    games = RandomGames(SPACE)
    ring, disk = FrameRing(50, SPACE, ACTIONS, "cpu"), Disk(5)
    for _ in range(23):
        ring.add(*games.step())
    disk.save(ring)
    ring.reset()
    assert disk.save(ring)[1]["chunks"] == []
    for _ in range(23):
        ring.add(*games.step())
    assert disk.save(ring)[1]["chunks"] == [4, 5, 6, 7, 8]
    other = disk.load(FrameRing(50, SPACE, ACTIONS, "cpu"))
    assert_same(in_use(other), in_use(ring))


@pytest.mark.parametrize("kind", [FrameRing, PrioritizedFrameRing])
def test_an_empty_ring_is_saved_and_restored(kind: type[FrameRing]) -> None:
    disk = Disk(3)
    disk.save(kind(10, STACKS, ACTIONS, "cpu", 2, frame_stack=2))
    other = disk.load(kind(10, STACKS, ACTIONS, "cpu", 2, frame_stack=2))
    whole = kind(10, STACKS, ACTIONS, "cpu", 2, frame_stack=2)
    assert_go_on_alike(whole, other, RandomGames(STACKS, 2, 2), 20)


def test_a_snapshot_between_a_sample_and_its_priorities_keeps_what_was_sampled() -> None:
    ring = prioritized(40)
    ring.sample(8)
    disk = Disk(7)
    disk.save(ring)
    other = disk.load(prioritized(0))
    assert isinstance(other, PrioritizedFrameRing)
    for each in (ring, other):
        each.update_priorities(each.sampled, np.arange(8.0))
    assert_same(in_use(other), in_use(ring))


def test_a_tree_of_three_levels_is_restored_to_the_bit() -> None:
    size = 70_001
    space = spaces.Discrete(5)
    ring = PrioritizedFrameRing(size, space, ACTIONS, "cpu")
    no = np.zeros(1)
    for i in range(5000):
        ring.add(np.array([i % 5]), np.array([(i + 1) % 5]), no, no, no, [{}])
    rng = np.random.default_rng(0)
    for _ in range(300):
        ring.update_priorities(rng.integers(0, 5000, 32), 10.0 ** rng.uniform(-9, 9, 32))
    disk = Disk(2000)
    disk.save(ring)
    other = disk.load(PrioritizedFrameRing(size, space, ACTIONS, "cpu"))
    assert_same(in_use(other), in_use(ring))


def test_a_snapshot_does_not_change_when_the_ring_goes_on() -> None:
    ring, games = prioritized(50), RandomGames(STACKS, 2, 2, p_end=0.2)
    arrays, scalars = snapshot(ring, 8)
    bits, text = save(arrays), json.dumps(scalars)
    assert_go_on_alike(ring, prioritized(50), games, 40)
    assert save(arrays) == bits
    assert json.dumps(scalars) == text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_ring_on_the_gpu_is_saved_and_restored_there_or_on_the_cpu() -> None:
    whole, disk = prioritized(50, device="cuda"), Disk(8)
    disk.save(whole)
    games = RandomGames(STACKS, 2, 2, p_end=0.2)
    others = [disk.load(prioritized(0, device=device)) for device in ("cuda", "cpu")]
    assert [str(other.device) for other in others] == ["cuda", "cpu"]
    for seed in range(40):
        step = games.step()
        batches = []
        for ring in (whole, *others):
            ring.add(*step)
            np.random.seed(seed)
            batches.append([None if part is None else part.cpu() for part in ring.sample(16)])
        for part, *same in zip(*batches, strict=True):
            assert all(part is each is None or torch.equal(part, each) for each in same)
