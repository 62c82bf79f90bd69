"""Reads files from untrusted sources: ordinary files of bounded size, and strict JSON."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from sndqn.errors import JsonError, RunFolderError

MAX_DEPTH = 8


def read_bytes(path: Path, longest: int) -> bytes:
    """Reads a file that has at most so many bytes.

    Raises:
        RunFolderError: There is none, it is no ordinary file, it has more, or it is not readable.
    """
    with _opened(path) as file:
        content = file.read(longest + 1)
    if len(content) > longest:
        raise RunFolderError(f"expected at most {longest} bytes, found more")
    return content


def read_lines(path: Path, longest: int) -> Iterator[bytes]:
    """Reads the lines of a file of any size, each of which has at most so many bytes.

    Raises:
        RunFolderError: As `read_bytes`.
    """
    with _opened(path) as file:
        while line := file.readline(longest + 1):
            if len(line) > longest:
                raise RunFolderError(f"expected lines of at most {longest} bytes, found more")
            yield line


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        if not path.is_file():
            raise RunFolderError("expected a file, found none; check the name")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise RunFolderError(f"expected a readable file, found: {error.strerror}") from None


def read_json(path: Path, longest: int) -> Any:
    """Reads a file of at most so many bytes as strict JSON.

    Raises:
        RunFolderError: As `read_bytes`.
        JsonError: As `strict_json`.
    """
    return strict_json(read_bytes(path, longest), longest)


def strict_json(content: bytes, longest: int, deepest: int = MAX_DEPTH) -> Any:
    """Reads JSON that says each thing once and nothing of unusual size.

    Args:
        content: UTF-8.
        longest: Bytes it may have.
        deepest: Lists and objects that may stand in each other.

    Raises:
        JsonError: It is too long, nested too deeply, no JSON, has a key twice, or a number that is
            not finite.
    """
    if len(content) > longest:
        raise JsonError(f"expected at most {longest} bytes of JSON, found {len(content)}")
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_number,
            parse_float=_finite,
        )
    except JsonError:
        raise
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise JsonError(f"expected JSON, found: {reason}") from None
    if _is_deeper(value, deepest):
        raise JsonError(f"expected JSON nested at most {deepest} deep, found deeper")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise JsonError("expected each key once, found one twice")
    return result


def _refuse_number(word: str) -> NoReturn:
    raise JsonError(f"expected finite numbers, found {word[:40]}")


def _finite(word: str) -> float:
    value = float(word)
    return value if math.isfinite(value) else _refuse_number(word)  # 1e999 is no constant


def _is_deeper(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(part, depth - 1) for part in inner)
