"""One text for the same JSON data, and the hash that names a content."""

import hashlib
import json

from sndqn.errors import JsonError


def canonical_json(data: object) -> bytes:
    """Writes JSON data in the one way: sorted keys, no white space, ASCII, finite numbers.

    Raises:
        JsonError: JSON cannot hold the data.
    """
    try:
        words = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise JsonError(f"expected content that JSON can hold, found: {error}") from None
    return words.encode("ascii")


def sha256_of(content: bytes | memoryview) -> str:
    """Computes the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
