import base64
import json
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sndqn.errors import RunFolderError, TraceError
from sndqn.evaluation import Trace, read_trace, write_trace
from sndqn.evaluation import traces as traces_module

# Every example overwrites the file of the one before, so that sharing a folder is no harm.
SHARED_FOLDER = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
SOME = settings(max_examples=150, **SHARED_FOLDER)
MANY = settings(max_examples=1000, **SHARED_FOLDER)
PRINTABLE = st.text().filter(str.isprintable)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts),
    max_leaves=6,
)


@st.composite
def any_traces(draw):
    length = draw(st.integers(1, 40))
    rewards = st.floats(-1e6, 1e6, width=32)
    fingerprint = draw(st.sampled_from([np.dtype(np.uint32), np.dtype(np.float32)]))
    numbers = {"elements": rewards} if fingerprint.kind == "f" else {}
    return Trace(
        settings=draw(st.dictionaries(st.text(), st.none() | st.integers() | st.text())),
        seed=draw(st.integers(0, 2**32 - 1)),
        epsilon=draw(st.floats(0, 1)),
        actions=draw(arrays.arrays(np.uint16, length)),
        rewards=draw(arrays.arrays(np.float32, length, elements=rewards)),
        fingerprints=draw(arrays.arrays(fingerprint, length + 1, **numbers)),
        ended_by=draw(st.sampled_from(["terminated", "truncated", "max_steps"])),
        versions=draw(st.dictionaries(PRINTABLE, PRINTABLE)),
        agent_sha256=draw(st.none() | st.text()),
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "episode.trace.json"


def document_of(trace):
    return json.loads(json.dumps(trace.to_dict()))


def assert_refused_in_one_line(path, pattern="expected"):
    with pytest.raises(TraceError, match=pattern) as caught:
        read_trace(path)
    assert "\n" not in str(caught.value)


def refusal(read, trace):
    """Return why a damaged trace is refused; the only other thing it may be is the same trace."""
    try:
        again = read()
    except TraceError as error:
        return str(error)
    assert again == trace
    return ""


@SOME
@given(trace=any_traces())
def test_every_trace_is_read_back_equal(tmp_path, trace):
    path = tmp_path / "any.trace.json"
    write_trace(path, trace)
    again = read_trace(path)
    assert again == trace
    for name in ("actions", "rewards", "fingerprints"):
        np.testing.assert_array_equal(getattr(again, name), getattr(trace, name))
        assert getattr(again, name).dtype == getattr(trace, name).dtype
    assert again.to_dict() == trace.to_dict()


@MANY
@given(data=st.data())
def test_every_damaged_byte_is_refused_or_harmless(tmp_path, cartpole_trace, data):
    path = tmp_path / "damaged.trace.json"
    write_trace(path, cartpole_trace)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.sampled_from([start, start + 1, start + 20, len(content)]))
        content[start:end] = data.draw(st.binary(max_size=4))
    path.write_bytes(bytes(content))
    assert "\n" not in refusal(lambda: read_trace(path), cartpole_trace)


@MANY
@given(data=st.data())
def test_every_changed_value_is_refused(cartpole_trace, data):
    document = document_of(cartpole_trace)
    key = data.draw(st.sampled_from(sorted(document)))
    document[key] = data.draw(JSON_VALUES)
    assert "\n" not in refusal(lambda: Trace.from_dict(document), cartpole_trace)


@SOME
@given(document=JSON_VALUES)
def test_no_other_json_is_a_trace(tmp_path, document):
    path = tmp_path / "other.trace.json"
    path.write_text(json.dumps(document))
    assert_refused_in_one_line(path)


@SOME
@given(content=st.binary(max_size=200))
def test_no_noise_is_a_trace(tmp_path, content):
    path = tmp_path / "noise.trace.json"
    path.write_bytes(content)
    assert_refused_in_one_line(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 4), ("epsilon", 0.0), ("agent_sha256", "0" * 64), ("episode_return", 51.0)],
)
def test_an_edit_is_told_as_one(path, cartpole_trace, key, value):
    document = document_of(cartpole_trace)
    assert document[key] != value
    path.write_text(json.dumps({**document, key: value}))
    assert_refused_in_one_line(path, "was changed after it was written")


def test_an_edited_array_is_told_as_one(path, cartpole_trace):
    other = replace(cartpole_trace, rewards=cartpole_trace.rewards * 2)
    rewards = other.to_dict()["rewards"]
    path.write_text(json.dumps({**document_of(cartpole_trace), "rewards": rewards}))
    assert_refused_in_one_line(path, "was changed after it was written")


def test_white_space_and_the_order_of_keys_are_no_content(path, cartpole_trace):
    document = document_of(cartpole_trace)
    path.write_text(json.dumps(dict(reversed(document.items())), indent=7))
    assert read_trace(path) == cartpole_trace


def test_another_compression_is_the_same_trace(path, cartpole_trace):
    document = document_of(cartpole_trace)
    plain = zlib.compress(cartpole_trace.rewards.tobytes(), 0)
    assert base64.b64encode(plain).decode() != document["rewards"]
    path.write_text(json.dumps({**document, "rewards": base64.b64encode(plain).decode()}))
    assert read_trace(path) == cartpole_trace


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"schema": "sndqn-trace-2"}, "use the sndqn that wrote it"),
        ({"extra": 1}, "missing or unknown: .'extra'."),
        ({"seed": "3"}, "expected seed as int, found str"),
        ({"seed": True}, "expected seed as int, found bool"),
        ({"seed": 3.0}, "expected seed as int, found float"),
        ({"seed": -1}, "expected a seed from 0"),
        ({"epsilon": 2.0}, "expected epsilon from 0 to 1"),
        ({"length": 49}, "expected actions to hold 49 numbers"),
        ({"length": 51}, "expected actions to hold 51 numbers"),
        ({"length": 0}, "expected 1 to 1000000 steps, found 0"),
        ({"length": 10**12}, "expected 1 to 1000000 steps"),
        ({"actions": "###"}, "expected actions as base64 of zlib data"),
        ({"actions": "AAAA"}, "expected actions as base64 of zlib data"),
        ({"actions": "é"}, "expected actions as base64 of zlib data"),
        ({"fingerprint_kind": "md5"}, "expected fingerprint_kind"),
        ({"fingerprint_kind": "crc32"}, "was changed"),
        ({"ended_by": "boredom"}, "expected ended_by"),
        ({"versions": {"numpy": 2}}, "expected versions as printable text"),
        ({"versions": {"numpy": "2\x1b[2J"}}, "expected versions as printable text"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(path, cartpole_trace, change, pattern):
    path.write_text(json.dumps({**document_of(cartpole_trace), **change}))
    assert_refused_in_one_line(path, pattern)


@pytest.mark.parametrize(
    "content",
    [
        '{"schema": NaN}',
        '{"schema": 1, "schema": 1}',
        "[" * 100_000,
        "9" * 10_000,
        '{"schema": "sndqn-trace-1"}',
        "",
    ],
    ids=lambda content: content[:20],
)
def test_json_with_tricks_is_refused(path, content):
    path.write_text(content)
    assert_refused_in_one_line(path)


def test_not_a_number_is_refused_even_with_a_right_hash(cartpole_trace):
    rewards = cartpole_trace.rewards.copy()
    rewards[3] = np.nan
    with pytest.raises(TraceError, match="NaN"):
        replace(cartpole_trace, rewards=rewards)
    with pytest.raises(TraceError, match="JSON can hold"):
        replace(cartpole_trace, settings={"bound": float("inf")})


def test_a_decompression_bomb_is_not_unpacked(path, cartpole_trace):
    compressor = zlib.compressobj(9)
    bomb = b"".join(compressor.compress(bytes(2**20)) for _ in range(500)) + compressor.flush()
    document = {**document_of(cartpole_trace), "actions": base64.b64encode(bomb).decode()}
    path.write_text(json.dumps(document))
    tracemalloc.start()
    assert_refused_in_one_line(path, "expected actions to hold 50 numbers")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The bomb holds 500 MiB; the buffer that the file is read into is most of this.
    assert peak < 32 * 2**20


def test_a_file_over_the_cap_is_not_read(path):
    with path.open("wb") as file:
        file.truncate(2**40)
    assert_refused_in_one_line(path, "found more")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert_refused_in_one_line(tmp_path / "none.trace.json", "found none; check the name")
    assert_refused_in_one_line(tmp_path, "expected a file")


def test_a_trace_of_a_long_game_is_small(breakout_trace, path):
    write_trace(path, breakout_trace)
    # Four bytes of checksum per step are most of it, and base64 adds a third.
    assert path.stat().st_size < 1500 + 7 * breakout_trace.length


def test_writing_leaves_no_part_file_and_makes_folders(tmp_path, cartpole_trace):
    path = tmp_path / "new" / "folder" / "a.trace.json"
    write_trace(path, cartpole_trace)
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(RunFolderError, match="name another file"):
        write_trace(path / "below.trace.json", cartpole_trace)
    with pytest.raises(RunFolderError, match="it is a folder"):
        write_trace(tmp_path, cartpole_trace)
    assert read_trace(path) == cartpole_trace


def test_arrays_of_a_trace_cannot_be_written_to(cartpole_trace):
    with pytest.raises(ValueError, match="read-only"):
        cartpole_trace.actions[0] = 1


def test_reading_uses_neither_pickle_nor_eval():
    source = Path(traces_module.__file__).read_text()
    assert not any(word in source for word in ("pickle", "eval(", "exec(", "np.load"))
