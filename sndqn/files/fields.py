"""The fields of JSON that a stranger may have written: closed keys, closed values."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sndqn.errors import AgentFileError, shortened

# Upper ends far beyond use: of a layer's units, and of layers. That a network fits into memory is
# checked where it is planned.
MAX_SIZE = 2**20
MAX_LAYERS = 32


class Field(NamedTuple):
    """What a value must be.

    Attributes:
        expected: That in words, for the message.
        check: Whether a value is it.
    """

    expected: str
    check: Callable[[Any], bool]


FLAG = Field("true or false", lambda value: type(value) is bool)
SHA256 = Field(
    "64 hexadecimal digits in lower case",
    lambda value: type(value) is str and re.fullmatch(r"[0-9a-f]{64}", value) is not None,
)


def one_of(*names: str) -> Field:
    """Returns the field for one of some words."""
    return Field(f"one of {', '.join(names)}", lambda value: type(value) is str and value in names)


def whole(low: int, high: int) -> Field:
    """Returns the field for an integer from `low` to `high`."""
    return Field(
        f"a whole number from {low} to {high}",
        lambda value: type(value) is int and low <= value <= high,
    )


def number(low: float, high: float) -> Field:
    """Returns the field for a number from `low` to `high`."""
    return Field(
        f"a number from {low:g} to {high:g}",
        lambda value: type(value) in (int, float) and low <= value <= high,
    )


def wholes(longest: int, high: int) -> Field:
    """Returns the field for a list of at most `longest` integers from 1 to `high`."""
    entry = whole(1, high)
    return Field(
        f"at most {longest} whole numbers from 1 to {high}",
        lambda value: (
            type(value) is list and len(value) <= longest and all(map(entry.check, value))
        ),
    )


def text(longest: int) -> Field:
    """Returns the field for one line of at most `longest` characters that steer no terminal."""
    return Field(
        f"at most {longest} printable characters",
        lambda value: type(value) is str and len(value) <= longest and value.isprintable(),
    )


def either(field: Field, value: object) -> Field:
    """Returns the field for one more value: null, or a word."""
    return Field(
        f"{field.expected}, or {json.dumps(value)}",
        lambda found: (type(found) is type(value) and found == value) or field.check(found),
    )


def checked(
    where: str, found: object, fields: Mapping[str, Field], *, may_miss: bool = False
) -> dict[str, Any]:
    """Returns JSON data if it has these fields and no others.

    Args:
        where: What the message calls the data: "network".
        found: The data.
        fields: Its fields by name.
        may_miss: Whether any of them may be missing.

    Raises:
        AgentFileError: A field is missing, unknown, or not what it must be.
    """
    if type(found) is not dict:
        raise AgentFileError(f"{where}: expected {{...}}, found {shortened(found)}")
    for name in found:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise AgentFileError(f"{where}: expected the fields {known}, found {shortened(name)}")
    for name, field in fields.items():
        if name not in found:
            if may_miss:
                continue
            raise AgentFileError(f"{where}: expected the field {name}, found none")
        if not field.check(found[name]):
            raise AgentFileError(
                f"{where}: {name}: expected {field.expected}, found {shortened(found[name])}"
            )
    return found
