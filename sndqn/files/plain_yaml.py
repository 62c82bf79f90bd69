"""YAML that Python wrote of plain data, read as values alone.

rl-zoo writes its files with PyYAML's full dumper: plain values, and now and then a tuple or an
OrderedDict. These two tags are read as a list and a dict. Every other tag is refused: nothing is
imported, made or called that a file names.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from sndqn.errors import ConfigError, SndqnError, shortened
from sndqn.files.reading import read_bytes

MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000
MAX_DEPTH = 16

_TAG = "tag:yaml.org,2002:"
_TUPLE = f"{_TAG}python/tuple"
_ORDERED = f"{_TAG}python/object/apply:collections.OrderedDict"
_SCALARS = {f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str")}


def read_plain_yaml(path: Path) -> Any:
    """Reads a file that holds one value of YAML.

    Raises:
        ConfigError: There is no such file, it is too large, or it is no plain data.
    """
    try:
        return plain_yaml(read_bytes(path, MAX_BYTES))
    except SndqnError as error:
        raise ConfigError(f"{path}: {error}") from None


def plain_yaml(content: bytes) -> Any:
    """Reads one value of YAML: null, booleans, numbers, words, lists and mappings of these.

    Raises:
        ConfigError: It is no YAML, has another tag, a key twice, or more than 20000 values, those
            counted again to which an alias points.
    """
    try:
        node = yaml.compose(content.decode("utf-8"), Loader=yaml.SafeLoader)
        return None if node is None else _Reader().value(node, MAX_DEPTH)
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        raise ConfigError(f"expected YAML of plain data, found {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Returns what is wrong, in a few words, and in which line if PyYAML says it."""
    words = getattr(error, "problem", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    where = "" if mark is None else f" in line {mark.line + 1}"
    return f"{shortened(' '.join(words.split()))}{where}"


class _Reader:
    """Makes values of PyYAML's nodes, and counts them: an alias repeats what it points to."""

    def __init__(self) -> None:
        self._left = MAX_VALUES
        self._scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, depth: int) -> Any:
        self._left -= 1
        if depth == 0 or self._left < 0:
            raise ConfigError(
                f"expected at most {MAX_VALUES} values, nested at most {MAX_DEPTH} deep, found more"
            )
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalars.construct_object(node)
        if isinstance(node, yaml.SequenceNode) and node.tag in (f"{_TAG}seq", _TUPLE):
            return [self.value(part, depth - 1) for part in node.value]
        if isinstance(node, yaml.SequenceNode) and node.tag == _ORDERED:
            return self._ordered([self.value(part, depth - 1) for part in node.value])
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(
                [[self.value(part, depth - 1) for part in pair] for pair in node.value]
            )
        raise ConfigError(
            f"expected plain data, a tuple or an OrderedDict, found the tag {shortened(node.tag)}, "
            "which is not read"
        )

    def _ordered(self, arguments: list[Any]) -> dict[Hashable, Any]:
        """Reads the one argument that OrderedDict is written with, its pairs; none where empty."""
        pairs = arguments[0] if arguments else []
        if len(arguments) > 1 or not (
            isinstance(pairs, list) and all(isinstance(p, list) and len(p) == 2 for p in pairs)
        ):
            raise ConfigError("expected an OrderedDict of pairs, found another")
        return self._mapping(pairs)

    @staticmethod
    def _mapping(pairs: list[list[Any]]) -> dict[Hashable, Any]:
        for key, _ in pairs:
            if isinstance(key, list | dict):
                raise ConfigError("expected keys that are words or numbers, found a collection")
        result = {key: value for key, value in pairs}
        if len(result) != len(pairs):
            raise ConfigError("expected each key once, found one twice")
        return result
