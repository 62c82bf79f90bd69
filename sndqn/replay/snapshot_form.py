"""What a saved replay consists of, and the refusal of what is none or another ring's."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer

from sndqn.errors import ConfigError
from sndqn.replay.frame_ring import FrameRing
from sndqn.replay.prioritized import PrioritizedFrameRing
from sndqn.replay.rows import Array
from sndqn.replay.stacks import Extent, FrameStacks

# A ring's arrays with a row per index.
PER_TRANSITION = ("actions", "rewards", "dones", "timeouts")

# A dtype, and a shape in which None is any length.
Form = tuple[npt.DTypeLike, tuple[int | None, ...]]

# JSON readers and NumPy keep numbers up to here whole, and their sums with a ring's.
_LARGEST_COUNT = 2**53


def supported(ring: BaseBuffer) -> FrameRing:
    """Returns the ring; refuses other classes, and subclasses, whose state is unknown here."""
    if isinstance(ring, FrameRing) and type(ring) in (FrameRing, PrioritizedFrameRing):
        return ring
    raise ConfigError(
        "Of replay buffers, FrameRing and PrioritizedFrameRing can be saved and restored; found "
        f"{type(ring).__name__}. Leave out replay_buffer_class to have one of them."
    )


def checked_chunk_slots(chunk_slots: int) -> int:
    """Returns the number of slots per chunk, or refuses it."""
    if chunk_slots < 1:
        raise ConfigError(f"chunk_slots: expected 1 or more, found {chunk_slots}")
    return chunk_slots


def configuration(ring: FrameRing) -> dict[str, Any]:
    """Returns what two rings must have in common for one to take over what the other holds."""
    assert isinstance(ring.action_space, spaces.Discrete)
    names = ["buffer_size", "n_envs", "frame_stack", "n_steps", "gamma"]
    names.append("handle_timeout_termination")
    if isinstance(ring, PrioritizedFrameRing):
        names += ["priority_exponent", "importance_exponent"]
    return {
        "kind": type(ring).__name__,
        "observation_shape": [int(length) for length in ring.obs_shape],
        "observation_dtype": np.dtype(ring.observation_space.dtype).str,  # with its byte order
        "n_actions": int(ring.action_space.n),
    } | {name: getattr(ring, name) for name in names}


def needed_chunks(extent: Extent, chunk_slots: int) -> range:
    """Returns the numbers of the finished chunks that have slots in use."""
    return range(extent.oldest // chunk_slots, extent.settled // chunk_slots)


def tail_start(extent: Extent, chunk_slots: int) -> int:
    """Returns the first slot in use that is in no finished chunk."""
    return max(extent.settled // chunk_slots * chunk_slots, extent.oldest)


def slot_nbytes(stacks: FrameStacks) -> int:
    """Returns the bytes of a frame of every environment."""
    return stacks.n_envs * stacks.frames.row_nbytes


def check_scalars(ring: FrameRing, scalars: Mapping[str, Any]) -> None:
    """Checks that a snapshot's JSON data is of a ring like this.

    Raises:
        ConfigError: It is of another one, or incomplete, or superfluous or impossible in parts.
    """
    if "configuration" in scalars:  # first: it says the most
        _check_configuration(ring, scalars["configuration"], scalars)
    floats = {"beta", "largest_priority"} if isinstance(ring, PrioritizedFrameRing) else set()
    integers = {"chunk_slots": 1, "first": 0, "count": 0}
    _check_names(scalars, {"configuration", "chunks", "padding", *integers, *floats}, "scalars")
    for name, value in scalars.items():
        bad_integer = name in integers and (
            type(value) is not int or not integers[name] <= value <= _LARGEST_COUNT
        )
        bad_float = name in floats and (type(value) is not float or not math.isfinite(value))
        bad_padding = name == "padding" and value not in (None, "zeros", "repeat")
        if bad_integer or bad_float or bad_padding:
            raise ConfigError(f"A saved replay has an impossible {name}, {value!r}.")
    extent = ring._stacks.extent(scalars["first"], scalars["count"])
    if scalars["chunks"] != list(needed_chunks(extent, scalars["chunk_slots"])):
        raise ConfigError("A saved replay has a list of chunks that contradicts its counts.")


def _check_configuration(ring: FrameRing, saved: Any, scalars: Mapping[str, Any]) -> None:
    own, saved = configuration(ring), saved if isinstance(saved, dict) else {}
    size, first, count = saved.get("buffer_size"), scalars.get("first"), scalars.get("count")
    if type(size) is type(first) is type(count) is int and (
        first + count <= size <= ring.buffer_size
    ):
        # It never came around: a larger ring has the same at the same places.
        saved = {**saved, "buffer_size": ring.buffer_size}
    other = [name for name in own | saved if own.get(name) != saved.get(name)]
    if other:
        found = ", ".join(f"{name}={saved.get(name)!r}, not {own.get(name)!r}" for name in other)
        raise ConfigError(f"The saved replay has other settings than this one: {found}.")


def _check_names(found: Mapping[str, Any], expected: set[str], what: str) -> None:
    missing, strange = sorted(expected - set(found)), sorted(set(found) - expected)
    if missing or strange:
        raise ConfigError(
            f"A saved replay has other {what} than it should: missing are {missing}, superfluous "
            f"are {strange}."
        )


def check_arrays(ring: FrameRing, arrays: Mapping[str, Array], scalars: Mapping[str, Any]) -> None:
    """Checks that a snapshot's arrays fit a ring like this and each other.

    Args:
        ring: What they are for.
        arrays: What to check.
        scalars: Of the same snapshot, already checked.

    Raises:
        ConfigError: They do not; nothing was changed.
    """
    forms = _forms(ring, scalars)
    _check_names(arrays, set(forms), "arrays")
    for name, (dtype, shape) in forms.items():
        array = arrays[name]
        fits = len(array.shape) == len(shape) and all(
            expected in (None, found) for expected, found in zip(shape, array.shape, strict=True)
        )
        if array.dtype != dtype or not fits:
            raise ConfigError(
                f"array {name} of a saved replay: expected {np.dtype(dtype)} of shape {shape}, "
                f"found {array.dtype} of shape {array.shape}"
            )
    for name, holds in _claims(ring, arrays).items():
        if not holds:
            raise ConfigError(f"The array {name} of a saved replay has impossible values.")


def _forms(ring: FrameRing, scalars: Mapping[str, Any]) -> dict[str, Form]:
    stacks, count = ring._stacks, scalars["count"]
    extent = stacks.extent(scalars["first"], count)
    size = min(count, ring.buffer_size)
    n_tail = extent.end - tail_start(extent, scalars["chunk_slots"])
    kept_nbytes = ring._kept.rows.row_nbytes
    forms: dict[str, Form] = {
        "tail": (np.uint8, (n_tail, slot_nbytes(stacks))),
        "depth": (np.uint8, (min(extent.end, stacks.n_slots), ring.n_envs)),
        "expected": (np.uint8, (ring.n_envs * kept_nbytes if count else 0,)),
        "follows": (np.bool_, (ring.n_envs,)),
        "kept": (np.uint8, (None, kept_nbytes)),
        "kept_at": (np.int64, (None,)),
        "kept_numbers": (np.int64, (None,)),
        "kept_free": (np.int64, (None,)),
    }
    for name in PER_TRANSITION:
        forms[name] = (getattr(ring, name).dtype, (size, ring.n_envs))
    if isinstance(ring, PrioritizedFrameRing):
        forms["priorities"] = (np.float64, (size * ring.n_envs,))
        forms["sampled"] = (np.int64, (None,))
    return forms


def _claims(ring: FrameRing, arrays: Mapping[str, Array]) -> dict[str, bool]:
    """Returns for each array of the right form whether a ring can have their values."""
    assert isinstance(ring.action_space, spaces.Discrete)
    kept_at, numbers = arrays["kept_at"], arrays["kept_numbers"]
    rows = np.sort(np.concatenate([numbers, arrays["kept_free"]]))
    n_transitions = arrays["actions"].size
    claims = {
        "actions": arrays["actions"].max(initial=0) < ring.action_space.n,
        "depth": arrays["depth"].max(initial=0) <= ring.frame_stack,
        "kept": len(arrays["kept"]) == len(kept_at),
        "kept_at": _are_within(kept_at, n_transitions) and (np.diff(kept_at) > 0).all(),
        # Each row is in use once or free once.
        "kept_numbers": len(numbers) == len(kept_at) and np.array_equal(rows, np.arange(len(rows))),
    }
    if isinstance(ring, PrioritizedFrameRing):
        priorities = arrays["priorities"]
        claims["priorities"] = ((priorities > 0) & (priorities <= ring._tree.highest)).all()
        claims["sampled"] = _are_within(arrays["sampled"], n_transitions)
    return {name: bool(holds) for name, holds in claims.items()}


def _are_within(indices: Array, length: int) -> bool:
    return bool(indices.min(initial=0) >= 0 and indices.max(initial=-1) < length)
