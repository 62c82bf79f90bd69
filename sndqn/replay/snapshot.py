"""A replay saved and restored to the bit, at the cost of what is new since it was saved last.

Nearly all bytes of a replay are frames. They are saved in chunks of a fixed number of slots, a slot
being a frame of every environment. Slots are numbered on however often the ring comes around, so
what is in a chunk never changes: it is written once, and deleted once no snapshot needs it. A
snapshot has everything else, a few bytes per transition:

    for number, data in finished_chunks(ring, after=newest_written):
        write(number, data)
    arrays, scalars = snapshot(ring)

Both must see the ring at one time, with no `add` between them. The insides of the rings are no
secret here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import BaseBuffer

from sndqn.errors import ConfigError
from sndqn.replay.frame_ring import FrameRing
from sndqn.replay.prioritized import PrioritizedFrameRing
from sndqn.replay.rows import Array, Bytes, Indices
from sndqn.replay.snapshot_form import (
    PER_TRANSITION,
    check_arrays,
    check_scalars,
    checked_chunk_slots,
    configuration,
    needed_chunks,
    slot_nbytes,
    supported,
    tail_start,
)
from sndqn.replay.stacks import Extent, FrameStacks

CHUNK_SLOTS = 2000


def finished_chunks(
    ring: BaseBuffer, after: int = -1, chunk_slots: int = CHUNK_SLOTS
) -> Iterator[tuple[int, bytes]]:
    """Returns the frames that will not change any more, chunk by chunk, each read when asked for.

    Frames that the ring has lost already, because it was not saved for long, are zeros: no later
    snapshot needs them.

    Args:
        ring: What to save; it must not be added to before the last chunk was given.
        after: Number of the newest chunk that was given before; -1 for none.
        chunk_slots: Slots per chunk, the same throughout a run.

    Returns:
        Of each chunk, in rising order, its number and its bytes: those of an array of shape
        (chunk_slots, n_envs, *frame shape) and the observations' dtype, in C order.

    Raises:
        ConfigError: This is no buffer to save, or `chunk_slots` is below 1.
    """
    stacks = supported(ring)._stacks
    needed = needed_chunks(_extent(stacks), checked_chunk_slots(chunk_slots))
    numbers = range(max(needed.start, after + 1), needed.stop)
    return ((number, _read_chunk(stacks, number, chunk_slots)) for number in numbers)


def snapshot(
    ring: BaseBuffer, chunk_slots: int = CHUNK_SLOTS
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Returns all of a replay that is in no finished chunk, as copies.

    Args:
        ring: What to save.
        chunk_slots: As for `finished_chunks`.

    Returns:
        Arrays by name, of dtypes that safetensors has; and JSON data, of which `chunks` is the list
        of the chunks' numbers that `restore` will ask for.

    Raises:
        ConfigError: This is no buffer to save, or `chunk_slots` is below 1.
    """
    ring = supported(ring)
    stacks, kept, size = ring._stacks, ring._kept, ring.size()
    extent = _extent(stacks)
    needed = needed_chunks(extent, checked_chunk_slots(chunk_slots))
    kept_at = np.flatnonzero(ring._kept_numbers[:size] >= 0)
    kept_numbers = ring._kept_numbers.take(kept_at).astype(np.int64)
    follows = np.ones(stacks.n_envs, np.bool_) if stacks._follows is None else stacks._follows
    arrays: dict[str, Array] = {
        "tail": _read_slots(stacks, tail_start(extent, chunk_slots), extent.end),
        "depth": stacks._depth[: min(extent.end, stacks.n_slots)].copy(),
        "expected": np.frombuffer(stacks._expected, np.uint8).copy(),
        "follows": follows.copy(),
        "kept": kept.rows.read_bytes(kept_numbers),
        "kept_at": kept_at,
        "kept_numbers": kept_numbers,
        "kept_free": kept.free,
    } | {name: getattr(ring, name)[:size].copy() for name in PER_TRANSITION}
    scalars: dict[str, Any] = {
        "configuration": configuration(ring),
        "chunk_slots": chunk_slots,
        "chunks": list(needed),
        "first": stacks.first,
        "count": stacks.count,
        "padding": stacks.padding,
    }
    if isinstance(ring, PrioritizedFrameRing):
        arrays["priorities"] = ring._tree.get(np.arange(size * ring.n_envs))
        arrays["sampled"] = ring.sampled.copy()
        scalars |= {"beta": float(ring.beta), "largest_priority": ring._largest}
    return arrays, scalars


def restore(
    ring: BaseBuffer,
    arrays: Mapping[str, Array],
    scalars: Mapping[str, Any],
    chunks: Callable[[int], bytes],
) -> None:
    """Makes a new replay go on as the saved one did: the same batches and snapshots to the bit.

    Args:
        ring: As it was made, with the settings of the saved one, or larger if that one never came
            around; on any device.
        arrays: From `snapshot`, as `scalars`.
        scalars: Unchanged but for a way through JSON.
        chunks: Gives the bytes of a chunk by its number, for each of `scalars["chunks"]` once.

    Raises:
        ConfigError: The ring is of another kind or other settings or holds something; an array or
            scalar is missing, superfluous, of a wrong form or impossible; or a chunk is of a wrong
            size. The ring is empty as before then, also if `chunks` raises an error of its own.
    """
    ring = supported(ring)
    stacks = ring._stacks
    if _extent(stacks).end:
        raise ConfigError("A replay is restored into a new one, found one that was written to.")
    check_scalars(ring, scalars)
    check_arrays(ring, arrays, scalars)
    extent = stacks.extent(scalars["first"], scalars["count"])
    # The frames first: until the rest says so, they do not count as written.
    for number in scalars["chunks"]:
        _write_chunk(stacks, number, chunks(number), scalars["chunk_slots"], extent)
    _write_slots(stacks, extent.end - len(arrays["tail"]), arrays["tail"])
    _restore_stacks(stacks, arrays, scalars)
    _restore_transitions(ring, arrays, scalars["count"])
    if isinstance(ring, PrioritizedFrameRing):
        ring._tree.assign(arrays["priorities"])
        ring.sampled = np.array(arrays["sampled"])
        ring.beta, ring._largest = scalars["beta"], scalars["largest_priority"]


def _restore_stacks(
    stacks: FrameStacks, arrays: Mapping[str, Array], scalars: Mapping[str, Any]
) -> None:
    stacks.first, stacks.count = scalars["first"], scalars["count"]
    stacks.padding = scalars["padding"]
    stacks._depth[: len(arrays["depth"])] = arrays["depth"]
    stacks._expected = arrays["expected"].tobytes()
    # None stands for all of them, and only for that.
    stacks._follows = None if arrays["follows"].all() else np.array(arrays["follows"])


def _restore_transitions(ring: FrameRing, arrays: Mapping[str, Array], count: int) -> None:
    stacks, length = ring._stacks, ring.buffer_size
    ring.pos, ring.full = count % length, count >= length
    for name in PER_TRANSITION:
        getattr(ring, name)[: ring.size()] = arrays[name]
    # A transition's observation is as many slots behind the first as there were before it.
    numbers = np.arange(count - ring.size(), count)
    slots = stacks.first % stacks.n_slots + numbers + stacks.frame_stack - 1
    ring._places[numbers % length] = slots % stacks.n_slots * ring.n_envs
    ring._kept.restore(arrays["kept_numbers"], arrays["kept"], arrays["kept_free"])
    ring._kept_numbers.reshape(-1)[arrays["kept_at"]] = arrays["kept_numbers"]


def _extent(stacks: FrameStacks) -> Extent:
    return stacks.extent(stacks.first, stacks.count)


def _rows(stacks: FrameStacks, start: int, stop: int) -> Indices:
    """Returns the numbers of the rows that slots have, in their order."""
    rows = start % stacks.n_slots * stacks.n_envs + np.arange((stop - start) * stacks.n_envs)
    return rows % (stacks.n_slots * stacks.n_envs)


def _read_slots(stacks: FrameStacks, start: int, stop: int) -> Bytes:
    """Returns the bytes of slots, shape (slots, bytes of one), as a copy on the CPU."""
    frames = stacks.frames.read_bytes(_rows(stacks, start, stop))
    return frames.reshape(stop - start, slot_nbytes(stacks))


def _write_slots(stacks: FrameStacks, start: int, values: Bytes) -> None:
    rows = _rows(stacks, start, start + len(values))
    stacks.frames.write_bytes(rows, values.reshape(len(rows), stacks.frames.row_nbytes))


def _read_chunk(stacks: FrameStacks, number: int, chunk_slots: int) -> bytes:
    stop = (number + 1) * chunk_slots
    start = max(number * chunk_slots, _extent(stacks).oldest)
    n_lost = chunk_slots - (stop - start)
    return bytes(n_lost * slot_nbytes(stacks)) + _read_slots(stacks, start, stop).tobytes()


def _write_chunk(
    stacks: FrameStacks, number: int, data: bytes, chunk_slots: int, extent: Extent
) -> None:
    """Writes what the ring still had of a chunk: a place must not be written to twice on a GPU."""
    expected = chunk_slots * slot_nbytes(stacks)
    if len(data) != expected:
        raise ConfigError(
            f"chunk {number} of the replay: expected {expected} bytes, found {len(data)}"
        )
    n_lost = max(extent.oldest - number * chunk_slots, 0)
    frames = np.frombuffer(data, np.uint8).reshape(chunk_slots, -1)[n_lost:]
    _write_slots(stacks, number * chunk_slots + n_lost, frames)
