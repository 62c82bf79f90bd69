"""Short numbers by which a replay recognises observations."""

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from sndqn.errors import TraceError

# Float observations come from libm, whose last bits differ between machines.
_TOLERANCE = 1e-4


def fingerprint(observation: Any) -> np.generic:
    """Return a short number that an observation is recognised by.

    Parts of Dict and Tuple observations are taken in a fixed order.

    Returns:
        uint32, the CRC-32 of the bytes, if every part is of integers; else float32, the sum.

    Raises:
        TraceError: A part holds something else than finite numbers.
    """
    parts = [np.asarray(part) for part in _parts(observation)]
    if all(part.dtype.kind in "biu" for part in parts):
        checksum = 0
        for part in parts:
            little_endian = part.astype(part.dtype.newbyteorder("<"), copy=False)
            checksum = zlib.crc32(np.ascontiguousarray(little_endian).tobytes(), checksum)
        return np.uint32(checksum)
    if not all(part.dtype.kind in "biuf" for part in parts):
        kinds = [str(part.dtype) for part in parts]
        raise TraceError(f"expected observations of numbers, found {kinds}; cannot be recorded")
    if not all(np.isfinite(part).all() for part in parts):
        raise TraceError("expected finite observations, found NaN or infinity; cannot be recorded")
    # Summed exactly: how numpy adds depends on the processor.
    return np.float32(math.fsum(number for part in parts for number in part.ravel().tolist()))


def close_enough(recorded: Any, came: Any, exact: bool) -> bool:
    """Compare a recorded number with the one that came: equal if `exact`, else up to 1e-4."""
    if exact:
        return bool(recorded == came)
    return math.isclose(recorded, came, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _parts(observation: Any) -> Iterator[Any]:
    """Walk through a nested observation in a fixed order."""
    if isinstance(observation, dict):
        for key in sorted(observation):
            yield from _parts(observation[key])
    elif isinstance(observation, tuple):
        for part in observation:
            yield from _parts(part)
    else:
        yield observation
