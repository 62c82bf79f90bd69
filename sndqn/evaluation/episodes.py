"""episodes.jsonl: the episodes of an evaluation, one file of traces.

The first line says what all of them share: environment settings, epsilon, versions, the agent. Each
further line is what is one episode's own. Together they are a trace, whose SHA-256 is in its line.
Reading trusts a line no more than a trace's file (see `sndqn.evaluation.traces`).
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sndqn.errors import SndqnError, TraceError
from sndqn.evaluation.traces import MAX_FILE_BYTES, Trace
from sndqn.evaluation.traces import SCHEMA as TRACE_SCHEMA
from sndqn.files import read_lines, strict_json, write_text

SCHEMA = "sndqn-episodes-1"
_SHARED = ("settings", "epsilon", "fingerprint_kind", "versions", "agent_sha256")


def write_episodes(path: Path, traces: Sequence[Trace]) -> None:
    """Write the traces of one evaluation as one file, wholly or not at all.

    Raises:
        TraceError: They are of several agents or environments.
        RunFolderError: The file cannot be written.
    """
    documents = [trace.to_dict() for trace in traces]
    header = {"schema": SCHEMA, **{name: documents[0][name] for name in _SHARED}}
    lines = [header]
    for document in documents:
        if any(document[name] != header[name] for name in _SHARED):
            raise TraceError("expected episodes of one agent in one environment, found others too")
        lines.append({name: part for name, part in document.items() if name not in header})
    words = [json.dumps(line, separators=(",", ":"), allow_nan=False) for line in lines]
    write_text(path, "".join(f"{line}\n" for line in words))


def read_episodes(path: Path) -> Iterator[Trace]:
    """Read the traces of an evaluation one after another.

    Yields:
        Each episode, from 0.

    Raises:
        TraceError: The file cannot be read, is none of this kind, or was changed.
    """
    shared = _header(path)
    for number, line in enumerate(islice(_lines(path), 1, None)):
        yield _trace(path, shared, number, line)


def read_episode(path: Path, number: int) -> Trace:
    """Read the trace of one episode, counted from 0; of the others, nothing is unpacked.

    Raises:
        TraceError: As `read_episodes`; or there are fewer.
    """
    shared = _header(path)
    line = next(islice(_lines(path), number + 1, None), None)
    if line is None:
        raise TraceError(
            f"{path}: expected episode {number}, found fewer; evaluate the agent again"
        )
    return _trace(path, shared, number, line)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        yield from read_lines(path, MAX_FILE_BYTES)
    except SndqnError as error:
        raise TraceError(f"{path}: {error}") from None


def _header(path: Path) -> dict[str, Any]:
    """Read what all episodes share."""
    line = next(_lines(path), b"")
    try:
        header = strict_json(line, MAX_FILE_BYTES)
        if not isinstance(header, dict) or header.pop("schema", None) != SCHEMA:
            raise TraceError(
                f"expected schema {SCHEMA}, found another; use the sndqn that wrote it"
            )
        if set(header) != set(_SHARED):
            raise TraceError(f"expected the keys {', '.join(_SHARED)}, found others")
    except SndqnError as error:
        raise TraceError(f"{path}: line 1: {error}") from None
    return {"schema": TRACE_SCHEMA, **header}


def _trace(path: Path, shared: dict[str, Any], number: int, line: bytes) -> Trace:
    try:
        own = strict_json(line, MAX_FILE_BYTES)
        if not isinstance(own, dict) or own.keys() & shared.keys():
            raise TraceError("expected what is the episode's own, found something else")
        return Trace.from_dict({**shared, **own})
    except SndqnError as error:
        raise TraceError(f"{path}: episode {number}: {error}") from None
