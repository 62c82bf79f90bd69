"""Arrays as text: what the trace format is made of besides JSON."""

import base64
import binascii
import zlib
from typing import Any

import numpy as np

from sndqn.errors import TraceError


def hex_of(array: np.ndarray) -> str:
    """Return an array's bytes in hexadecimal."""
    return array.tobytes().hex()


def pack_array(array: np.ndarray) -> str:
    """Return an array's bytes compressed by zlib, in base64."""
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")


def unpack_array(name: str, text: str, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Read what `pack_array` gave, never expanding more than `count` numbers take.

    Args:
        name: What the array is called in error messages.
        text: The base64.
        count: How many numbers there must be.
        dtype: Their type.

    Raises:
        TraceError: The text is damaged or holds another number of bytes.
    """
    size = count * dtype.itemsize
    decompressor = zlib.decompressobj()
    try:
        # One byte more than allowed is enough to know that a stream is too long.
        content = decompressor.decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise TraceError(f"expected {name} as base64 of zlib data, found: {error}") from None
    if len(content) != size or not decompressor.eof or decompressor.unused_data:
        raise TraceError(f"expected {name} to hold {count} numbers, found another size")
    return np.frombuffer(content, dtype=dtype)
