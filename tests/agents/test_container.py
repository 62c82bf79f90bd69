"""The bytes of agent files: every damage is noticed, and every trick of JSON refused."""

import hashlib
import json
import random
import time

import pytest
from agent_files import agent_bytes, compact, rewritten, with_digest, words_of
from hypothesis import given
from hypothesis import strategies as st

from sndqn.agents import agent_from_bytes
from sndqn.agents.container import MAX_DESCRIPTION_BYTES, MAX_HEADER_BYTES, unpack
from sndqn.errors import AgentFileError, SndqnError

GOOD = agent_bytes()
HEADER = 8 + int.from_bytes(GOOD[:8], "little")


def test_the_same_agent_gives_the_same_bytes() -> None:
    assert agent_bytes() == GOOD


def test_the_digest_in_a_file_is_that_of_the_file_with_zeros_in_its_place() -> None:
    digest = words_of(GOOD)["content_sha256"].encode()
    assert GOOD.count(digest) == 1
    assert hashlib.sha256(GOOD.replace(digest, b"0" * 64)).hexdigest().encode() == digest


def test_no_flipped_bit_is_accepted() -> None:
    draw = random.Random(0)
    for _ in range(1200):
        content = bytearray(GOOD)
        content[draw.randrange(len(GOOD))] ^= 1 << draw.randrange(8)
        with pytest.raises(AgentFileError):
            agent_from_bytes(bytes(content), "file")


def test_no_part_of_a_file_is_accepted() -> None:
    draw = random.Random(0)
    for size in draw.sample(range(len(GOOD)), 500):
        with pytest.raises(AgentFileError):
            agent_from_bytes(GOOD[:size], "file")


def test_nothing_may_follow_a_file() -> None:
    for more in (b"\0", b"PK\x03\x04", GOOD):
        with pytest.raises(AgentFileError):
            agent_from_bytes(GOOD + more, "file")
        zeroed = GOOD.replace(words_of(GOOD)["content_sha256"].encode(), b"0" * 64)
        with pytest.raises(AgentFileError, match="one after the other"):
            agent_from_bytes(with_digest(zeroed + more), "file")


WORDS = {**words_of(GOOD), "content_sha256": "0" * 64}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (compact(WORDS).replace('"seed":4', '"seed":4,"seed":4'), "each key once"),
        (compact(WORDS).replace('"seed":4', '"seed":NaN'), "finite numbers, found NaN"),
        (compact(WORDS).replace('"seed":4', '"seed":-Infinity'), "finite numbers"),
        (compact(WORDS).replace('"seed":4', '"seed":1e999'), "finite numbers, found 1e999"),
        (compact(WORDS).replace('"seed":4', '"seed":' + "9" * 5000), "expected JSON"),
        (compact({**WORDS, "seed": [[[[[[[[[0]]]]]]]]]}), "at most 8 deep"),
        ("[" * 20_000, "expected JSON"),
        ("[" * 20_000 + "]" * 20_000, "expected JSON"),
        (compact({**WORDS, "seed": " " * MAX_DESCRIPTION_BYTES}), "bytes of JSON"),
        (compact({**WORDS, "content_sha256": "x"}), "content_sha256"),
        (compact(WORDS).replace('"content_sha256":"', '"content_sha256": "'), "content_sha256"),
        ("[]", "expected schema"),
        ("", "expected JSON"),
    ],
)
def test_a_description_that_plays_tricks_is_refused(words: str, message: str) -> None:
    with pytest.raises(SndqnError, match=message):
        unpack(rewritten(GOOD, words=words))


def with_header(header: str) -> bytes:
    raw = header.encode()
    return len(raw).to_bytes(8, "little") + raw + GOOD[HEADER:]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (" " * (MAX_HEADER_BYTES + 1), "safetensors header"),
        ("[]", "safetensors header"),
        ("{}", "description"),
        ('{"__metadata__":{"sndqn":"{}","more":"x"}}', "description"),
        ('{"__metadata__":{"sndqn":1}}', "description as text"),
        ('{"__metadata__":{"sndqn":"{}"},"__metadata__":{"sndqn":"{}"}}', "each key once"),
        ("\ud83d".encode("utf-8", "surrogatepass").decode("latin1"), "expected JSON"),
    ],
)
def test_a_header_that_plays_tricks_is_refused(header: str, message: str) -> None:
    with pytest.raises(SndqnError, match=message):
        unpack(with_header(header))


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("q_net.0.bias", {"data_offsets": [0, 2**40]}, "one after the other"),
        ("q_net.0.bias", {"data_offsets": [64, 128]}, "one after the other"),
        ("q_net.0.bias", {"shape": [2**39, 2**39]}, "one after the other"),
        ("q_net.0.bias", {"shape": [-16]}, "shape: expected"),
        ("q_net.0.bias", {"shape": [True]}, "shape: expected"),
        ("q_net.0.bias", {"more": 1}, "expected the fields"),
    ],
)
def test_tensors_that_lie_about_where_they_are_are_refused(
    name: str, entry: dict[str, object], message: str
) -> None:
    header = json.loads(GOOD[8:HEADER])
    header[name] = {**header[name], **entry}
    raw = compact(header).replace(words_of(GOOD)["content_sha256"], "0" * 64)
    with pytest.raises(SndqnError, match=message):
        unpack(with_digest(with_header(raw))).tensors()


@given(st.binary(max_size=300))
def test_nothing_but_an_agent_file_is_one(content: bytes) -> None:
    start = time.process_time()
    with pytest.raises(AgentFileError):
        agent_from_bytes(content, "file")
    assert time.process_time() - start < 1
