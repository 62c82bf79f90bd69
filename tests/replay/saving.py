"""A disk for replays that are saved and restored, and what it takes to call two the same."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces
from histories import RandomGames
from safetensors.numpy import load, save

from sndqn.replay import FrameRing, PrioritizedFrameRing
from sndqn.replay.snapshot import finished_chunks, restore, snapshot

ACTIONS = spaces.Discrete(3)
SPACE = spaces.Box(-9, 9, (4,), np.float32)
STACKS = spaces.Box(0, 255, (4, 2, 2), np.uint8)
Saved = tuple[dict[str, Any], dict[str, Any]]


@dataclass
class Disk:
    """What was written in a run: chunks, each once, and the newest snapshot.

    Attributes:
        chunk_slots: Slots per chunk.
        n_bytes: Written in all.
    """

    chunk_slots: int
    chunks: dict[int, bytes] = field(default_factory=dict)
    tensors: bytes = b""
    text: str = ""
    n_bytes: int = 0

    def save(self, ring: FrameRing) -> Saved:
        for number, data in finished_chunks(ring, max(self.chunks, default=-1), self.chunk_slots):
            assert number not in self.chunks
            self.chunks[number] = data
            self.n_bytes += len(data)
        arrays, scalars = snapshot(ring, self.chunk_slots)
        self.tensors, self.text = save(arrays), json.dumps(scalars)
        self.n_bytes += len(self.tensors) + len(self.text)
        return arrays, scalars

    def load(self, ring: FrameRing) -> FrameRing:
        """Restores into a new ring and gives it."""
        scalars = json.loads(self.text)
        asked: list[int] = []

        def chunk(number: int) -> bytes:
            asked.append(number)
            return self.chunks[number]

        restore(ring, load(self.tensors), scalars, chunk)
        assert asked == scalars["chunks"]
        return ring


def in_use(ring: FrameRing) -> dict[str, Any]:
    """Everything a ring holds that can still be read, by name."""
    stacks, kept, size = ring._stacks, ring._kept, ring.size()
    extent = stacks.extent(stacks.first, stacks.count)
    rows = np.arange(extent.oldest * ring.n_envs, extent.end * ring.n_envs)
    numbers = ring._kept_numbers[ring._kept_numbers >= 0].astype(np.int64)
    values: dict[str, Any] = {
        "extent": (*extent, stacks.first, stacks.count, ring.pos, ring.full),
        "frames": stacks.frames.read_bytes(rows % (stacks.n_slots * ring.n_envs)),
        "zeros": stacks.frames.export(len(stacks.frames))[-1],
        "depth": stacks._depth,
        "expected": stacks._expected,
        "follows": stacks._follows,
        "padding": stacks.padding,
        "places": ring._places[:size],
        "kept": kept.rows.read_bytes(numbers),
        "kept numbers": ring._kept_numbers,
        "free": kept._free,
    }
    for name in ("actions", "dones", "timeouts"):
        values[name] = getattr(ring, name)[:size]
    values["rewards"] = ring.rewards  # all: sums of several steps multiply the rest by 0
    if isinstance(ring, PrioritizedFrameRing):
        tree = ring._tree
        values |= {f"level {i}": level for i, level in enumerate([*tree._levels, tree._root])}
        values |= {"beta": ring.beta, "largest": ring._largest, "sampled": ring.sampled}
    return values


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        expected = other[name]
        if isinstance(value, np.ndarray):
            assert (value.dtype, value.shape) == (expected.dtype, expected.shape), name
            assert value.tobytes() == expected.tobytes(), name
        else:
            assert value == expected, name


def trained(ring: FrameRing, seed: int) -> list[bytes | None]:
    """Samples as an update does, and gives the bits of the batch."""
    np.random.seed(seed)
    batch = ring.sample(16)
    if isinstance(ring, PrioritizedFrameRing):
        ring.update_priorities(ring.sampled, batch.rewards * (1 + seed))
        ring.beta = min(1.0, ring.beta + 0.01)
    bits = [None if part is None else part.numpy().tobytes() for part in batch]
    return [*bits, np.random.bytes(1)]


def assert_go_on_alike(one: FrameRing, other: FrameRing, games: RandomGames, rounds: int) -> None:
    for seed in range(rounds):
        step = games.step()
        one.add(*step)
        other.add(*step)
        assert trained(one, seed) == trained(other, seed)


def prioritized(steps: int, **options: Any) -> PrioritizedFrameRing:
    games = RandomGames(STACKS, 2, 2, p_end=0.2)
    settings: dict[str, Any] = {"buffer_size": 60, "n_envs": 2, "frame_stack": 2, "n_steps": 3}
    settings |= {"observation_space": STACKS, "action_space": ACTIONS, "device": "cpu"}
    ring = PrioritizedFrameRing(**settings | options)
    for _ in range(steps):
        ring.add(*games.step())
    return ring
