"""Strict JSON: each thing once, finite, bounded; and the one text and digest of it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sndqn.errors import JsonError, RunFolderError, SndqnError
from sndqn.files import canonical_json, read_bytes, read_json, sha256_of, strict_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JSON"),
        (b"\xff", "expected JSON"),
        (b"{}{}", "expected JSON"),
        (b'{"a":1,"a":1}', "each key once"),
        (b'{"a":[{"b":1,"b":2}]}', "each key once"),
        (b"NaN", "finite numbers, found NaN"),
        (b"[-Infinity]", "finite numbers"),
        (b"1e999", "finite numbers, found 1e999"),
        (b"9" * 5000, "expected JSON"),
        (b"[" * 9 + b"]" * 9, "at most 8 deep"),
        (b"[" * 100_000, "expected JSON"),
        (b"[" * 50_000 + b"]" * 50_000, "expected JSON"),
        (b" " * 200_001, "at most 200000 bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_json_that_plays_tricks_is_refused_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(JsonError, match=message) as refusal:
        strict_json(content, 200_000)
    assert "\n" not in str(refusal.value)


@given(data=JSON)
def test_canonical_json_is_read_back_and_has_one_text(data: Any) -> None:
    text = canonical_json(data)
    again = strict_json(text, 10**6, deepest=100)
    assert again == data
    assert canonical_json(again) == text
    assert text.isascii()


def test_the_order_of_keys_changes_no_text_and_no_digest() -> None:
    one, other = (
        canonical_json({"b": 1, "a": [1.5, "σ"]}),
        canonical_json({"a": [1.5, "σ"], "b": 1}),
    )
    assert one == other == b'{"a":[1.5,"\\u03c3"],"b":1}'
    assert sha256_of(one) == hashlib.sha256(one).hexdigest()


@pytest.mark.parametrize("data", [float("nan"), {"a": float("inf")}, {1: 2, "1": 3}, object()])
def test_what_json_cannot_hold_has_no_canonical_text(data: Any) -> None:
    with pytest.raises(JsonError, match="JSON can hold"):
        canonical_json(data)


def test_a_file_that_is_missing_none_or_too_large_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # would wait for a writer for ever
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    for name, message in (
        ("gone", "found none"),
        (".", "found none"),
        ("pipe", "found none"),
        ("large", "at most 100 bytes, found more"),
    ):
        with pytest.raises(RunFolderError, match=message):
            read_bytes(tmp_path / name, 100)
    (tmp_path / "good").write_text(json.dumps({"a": 1}))
    assert read_json(tmp_path / "good", 8) == {"a": 1}
    with pytest.raises(SndqnError, match="at most 7 bytes"):
        read_json(tmp_path / "good", 7)
