"""What is no saved replay, or another ring's, is refused and changes nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from histories import RandomGames
from saving import (
    ACTIONS,
    SPACE,
    STACKS,
    Saved,
    assert_go_on_alike,
    assert_same,
    in_use,
    prioritized,
)
from stable_baselines3.common.buffers import ReplayBuffer

from sndqn.errors import ConfigError
from sndqn.replay import FrameRing
from sndqn.replay.snapshot import finished_chunks, restore, snapshot


def saved_one(steps: int = 50) -> tuple[Saved, dict[int, bytes]]:
    ring = prioritized(steps)
    chunks = dict(finished_chunks(ring, -1, 8))
    return snapshot(ring, 8), chunks


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"observation_space": spaces.Box(0, 255, (4, 4), np.uint8)}, r"observation_shape=\[4, 2"),
        ({"observation_space": spaces.Box(0, 9, (4, 2, 2), np.int8)}, r"observation_dtype='\|u1'"),
        ({"action_space": spaces.Discrete(4)}, "n_actions=3, not 4"),
        ({"frame_stack": 4}, "frame_stack=2, not 4"),
        ({"n_envs": 3, "buffer_size": 90}, "n_envs=2, not 3"),
        ({"n_steps": 1}, "n_steps=3, not 1"),
        ({"gamma": 0.9}, r"gamma=0\.99, not 0\.9"),
        ({"buffer_size": 64}, "buffer_size=30, not 32"),
        ({"handle_timeout_termination": False}, "handle_timeout_termination=True"),
        ({"priority_exponent": 0.6}, r"priority_exponent=0\.5, not 0\.6"),
        ({"importance_exponent": 1.0}, r"importance_exponent=0\.4, not 1\.0"),
    ],
)
def test_a_ring_of_other_settings_is_refused_and_says_which(
    options: dict[str, Any], words: str
) -> None:
    (arrays, scalars), chunks = saved_one()
    with pytest.raises(ConfigError, match=words):
        restore(prioritized(0, **options), arrays, scalars, chunks.__getitem__)


def test_a_ring_of_another_kind_is_refused() -> None:
    (arrays, scalars), chunks = saved_one()
    ring = FrameRing(60, STACKS, ACTIONS, "cpu", 2, frame_stack=2, n_steps=3)
    with pytest.raises(ConfigError, match="kind='PrioritizedFrameRing', not 'FrameRing'"):
        restore(ring, arrays, scalars, chunks.__getitem__)


class Own(FrameRing):
    """A subclass, which may have a state of its own."""


@pytest.mark.parametrize("kind", [ReplayBuffer, Own])
def test_other_buffers_are_refused_with_those_that_are_supported(kind: type[ReplayBuffer]) -> None:
    buffer = kind(10, SPACE, ACTIONS, "cpu")
    words = f"FrameRing and PrioritizedFrameRing can be saved .* found {kind.__name__}"
    with pytest.raises(ConfigError, match=words):
        snapshot(buffer)
    with pytest.raises(ConfigError, match=words):
        finished_chunks(buffer)
    with pytest.raises(ConfigError, match=words):
        restore(buffer, {}, {}, lambda number: b"")


@pytest.mark.parametrize("give", [snapshot, lambda ring, n: finished_chunks(ring, -1, n)])
def test_chunks_of_no_slots_are_refused(give: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="chunk_slots: expected 1 or more, found 0"):
        give(prioritized(3), 0)


def test_a_ring_that_was_written_to_is_refused() -> None:
    (arrays, scalars), chunks = saved_one()
    with pytest.raises(ConfigError, match="into a new one"):
        restore(prioritized(1), arrays, scalars, chunks.__getitem__)


def assert_refused_unchanged(saved: Saved, chunk: Callable[[int], bytes], words: str) -> None:
    ring = prioritized(0)
    with pytest.raises(ConfigError, match=words):
        restore(ring, *saved, chunk)
    assert_same(in_use(ring), in_use(prioritized(0)))
    assert_go_on_alike(ring, prioritized(0), RandomGames(STACKS, 2, 2, p_end=0.2), 40)


def test_missing_and_superfluous_parts_are_refused_and_change_nothing() -> None:
    (arrays, scalars), chunks = saved_one()
    for name in arrays:
        rest = {key: value for key, value in arrays.items() if key != name}
        assert_refused_unchanged((rest, scalars), chunks.__getitem__, rf"missing are \['{name}'\]")
    for name in scalars:
        less = {key: value for key, value in scalars.items() if key != name}
        assert_refused_unchanged(
            (arrays, less),
            chunks.__getitem__,
            rf"missing are \['{name}'\]",
        )
    more = {"strange": np.zeros(1)}
    words = r"superfluous are \['strange'\]"
    assert_refused_unchanged((arrays | more, scalars), chunks.__getitem__, words)
    assert_refused_unchanged((arrays, scalars | more), chunks.__getitem__, words)


def test_arrays_of_another_dtype_or_shape_are_refused_and_change_nothing() -> None:
    (arrays, scalars), chunks = saved_one()
    for name, array in arrays.items():
        for bad in (array.astype(np.int16), array[..., None], array[..., :-1]):
            if bad.shape == array.shape and bad.dtype == array.dtype:
                continue
            changed = arrays | {name: bad}
            assert_refused_unchanged((changed, scalars), chunks.__getitem__, "array")


def replaced(array: Any, value: Any, at: int = 0) -> Any:
    array = array.copy()
    array.reshape(-1)[at] = value
    return array


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("actions", 3),
        ("depth", 3),
        ("kept_at", -1),
        ("kept_at", 60),
        ("kept_numbers", 10**9),
        ("kept_numbers", -1),
        ("kept_free", 0),
        ("priorities", -1.0),
        ("priorities", np.nan),
        ("priorities", np.inf),
        ("priorities", 0.0),
        ("sampled", 60),
        ("sampled", -1),
    ],
)
def test_impossible_values_are_refused_and_change_nothing(name: str, value: Any) -> None:
    ring = prioritized(50)
    ring.sample(8)
    arrays, scalars = snapshot(ring, 8)
    assert len(arrays[name]) > 1
    chunks = dict(finished_chunks(ring, -1, 8))
    changed = arrays | {name: replaced(arrays[name], value)}
    assert_refused_unchanged((changed, scalars), chunks.__getitem__, "impossible values")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", -1),
        ("count", 50.0),
        ("count", 2**60),
        ("count", 49),
        ("first", True),
        ("first", "0"),
        ("chunk_slots", 0),
        ("chunk_slots", 9),
        ("chunks", []),
        ("chunks", None),
        ("padding", "mirror"),
        ("padding", ["zeros"]),
        ("beta", float("nan")),
        ("beta", "0.4"),
        ("largest_priority", float("inf")),
        ("configuration", None),
        ("configuration", {}),
    ],
)
def test_impossible_scalars_are_refused_and_change_nothing(name: str, value: Any) -> None:
    (arrays, scalars), chunks = saved_one()
    assert_refused_unchanged((arrays, scalars | {name: value}), chunks.__getitem__, "saved replay")


def test_chunks_of_a_wrong_size_are_refused_and_change_nothing() -> None:
    saved, chunks = saved_one()
    last = max(chunks)
    for size in (0, -1):
        broken = chunks | {last: chunks[last][:size]}
        words = f"chunk {last} of the replay: expected 128 bytes, found {len(broken[last])}"
        assert_refused_unchanged(saved, broken.__getitem__, words)
    longer = chunks | {last: chunks[last] + b"\0"}
    assert_refused_unchanged(saved, longer.__getitem__, "expected 128 bytes, found 129")


def test_an_error_from_reading_a_chunk_leaves_the_ring_empty() -> None:
    (arrays, scalars), chunks = saved_one()
    del chunks[max(chunks)]
    ring = prioritized(0)
    with pytest.raises(KeyError):
        restore(ring, arrays, scalars, chunks.__getitem__)
    assert_same(in_use(ring), in_use(prioritized(0)))
