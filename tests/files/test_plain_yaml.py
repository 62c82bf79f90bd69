"""YAML of plain data: what rl-zoo writes is read as values, and every other tag is refused."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sndqn.errors import ConfigError
from sndqn.files.plain_yaml import MAX_BYTES, MAX_VALUES, plain_yaml, read_plain_yaml

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
PLAIN = st.recursive(
    SCALARS,
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.dictionaries(st.text(), parts, max_size=4)
        | st.dictionaries(st.text(), parts, max_size=4).map(OrderedDict)
        | st.lists(parts, max_size=3).map(tuple)
    ),
    max_leaves=15,
)


def as_lists(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [as_lists(part) for part in value]
    return {k: as_lists(part) for k, part in value.items()} if isinstance(value, dict) else value


@given(PLAIN)
def test_plain_data_that_python_wrote_is_read_as_it_was(value: Any) -> None:
    assert plain_yaml(yaml.dump(value).encode()) == as_lists(value)


@pytest.mark.parametrize(
    "words",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/object/apply:collections.OrderedDict {a: 1}",
        "!!python/object/apply:collections.OrderedDict [[[a, 1]], [[b, 2]]]",
        "!!python/object/apply:collections.OrderedDict [[a, b]]",
        "!!python/object/apply:collections.OrderedDict\nargs: [[[a, 1]]]\nstate: {x: 1}",
        "!!python/object/new:collections.OrderedDict [[[a, 1]]]",
        "!!python/object/apply:collections.Counter [[[a, 1]]]",
        "!!python/name:os.system ''",
        "!!python/module:os ''",
        "!!python/object:pathlib.PosixPath {}",
        "!!python/tuple {a: 1}",
        "!!python/complex 1j",
        "!!python/bytes aGk=",
        "!!set {a}",
        "!!timestamp 2020-01-01",
        "2020-01-01",
        "!own x",
        "<<: {a: 1}",
        "{a: 1, a: 2}",
        "? [a]\n: 1",
        "&a [*a]",
        "*missing",
        "a: b: c",
        "--- a\n--- b",
        "[" * 5000,
        "9" * 5000,
        "!!int x",
        "!!float x",
        "!!bool x",
        "[" * 20 + "]" * 20,
    ],
)
def test_everything_else_is_refused_in_one_line(words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        plain_yaml(words.encode())
    assert len(str(refusal.value).splitlines()) == 1


def test_values_behind_aliases_are_counted_each_time() -> None:
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(ConfigError, match=f"at most {MAX_VALUES} values"):
        plain_yaml("\n".join(lines).encode())
    assert plain_yaml(b"a: &x [1]\nb: *x") == {"a": [1], "b": [1]}


def test_an_empty_file_is_nothing() -> None:
    assert plain_yaml(b"") is None
    assert plain_yaml(b"!!python/object/apply:collections.OrderedDict []") == {}


def test_a_file_that_is_too_large_or_missing_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "args.yml"
    with pytest.raises(ConfigError, match=r"args\.yml: expected a file, found none"):
        read_plain_yaml(path)
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=r"args\.yml: expected at most"):
        read_plain_yaml(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match=r"args\.yml: expected YAML of plain data"):
        read_plain_yaml(path)
