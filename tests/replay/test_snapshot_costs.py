"""What saving a replay takes: memory, bytes and time."""

import tracemalloc
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from gymnasium import spaces
from saving import Disk, assert_same, in_use

from sndqn.replay import FrameRing, PrioritizedFrameRing
from sndqn.replay.snapshot import finished_chunks, snapshot

ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)


class Screens:
    """Games of random frames that a file can compress: a picture, and a few spots that move."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.picture = self.rng.integers(0, 255, (84, 84), np.uint8)
        self.stack = np.zeros((1, 4, 84, 84), np.uint8)

    def play(self, ring: FrameRing, steps: int) -> None:
        for _ in range(steps):
            frame = self.picture.copy()
            frame.reshape(-1)[self.rng.integers(0, 7056, 20)] = 255
            after = np.concatenate([self.stack[:, 1:], frame[None, None]], axis=1)
            action, reward = self.rng.integers(0, 18, 1), self.rng.normal(size=1)
            done = self.rng.random(1) < 0.001
            ring.add(self.stack, after, action, reward, done, [{}])
            self.stack = after
            if done[0]:
                self.stack = np.concatenate([np.zeros_like(after[:, 1:]), after[:, -1:]], axis=1)


def screens_ring(size: int) -> PrioritizedFrameRing:
    return PrioritizedFrameRing(size, ATARI, spaces.Discrete(18), "cpu", frame_stack=4)


def traced_peak(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_saving_takes_the_memory_of_a_chunk_and_of_a_few_bytes_per_transition() -> None:
    ring = screens_ring(3000)
    Screens().play(ring, 2500)
    chunk = 100 * 7056
    small = 2500 * 60
    assert traced_peak(lambda: snapshot(ring, 100)) < 2.5 * chunk + small

    def drop_them() -> None:
        for _ in finished_chunks(ring, -1, 100):
            pass

    assert traced_peak(drop_them) < 4 * chunk


def test_a_run_writes_each_frame_once_and_a_tail_with_each_snapshot() -> None:
    ring, screens, disk = screens_ring(1000), Screens(), Disk(50)
    n_saves = 0
    for _ in range(24):
        screens.play(ring, 100)
        disk.save(ring)
        n_saves += 1
    frames = 2404 * 7056
    tails = n_saves * (50 * 7056 + 4 * 7056 + 1000 * 40 + 5000)
    assert 2400 * 7056 < disk.n_bytes < frames + tails
    assert sum(map(len, disk.chunks.values())) <= frames


def test_the_next_snapshot_of_a_large_ring_costs_what_is_new() -> None:
    """Shows times and sizes with -s."""
    ring, screens, disk = screens_ring(15_000), Screens(), Disk(2000)
    screens.play(ring, 14_000)
    disk.save(ring)
    before = disk.n_bytes
    screens.play(ring, 5000)  # the ring comes around
    start = perf_counter()
    data = list(finished_chunks(ring, max(disk.chunks), 2000))
    middle = perf_counter()
    snapshot(ring, 2000)
    end = perf_counter()
    disk.save(ring)
    new = disk.n_bytes - before
    assert new < (5000 + 2000 + 4) * 7056 + 15_000 * 40
    other = screens_ring(15_000)
    restored = perf_counter()
    disk.load(other)
    print(
        f"\n15k transitions, 5k new: {len(data)} chunks {middle - start:.3f} s, snapshot "
        f"{end - middle:.3f} s ({len(disk.tensors) / 1e6:.1f} MB), {new / 1e6:.1f} MB new, "
        f"restored in {perf_counter() - restored:.3f} s"
    )
    assert_same(in_use(other), in_use(ring))
