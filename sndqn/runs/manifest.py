"""manifest.json of a checkpoint: what belongs to it, with the size and the hash of each part."""

import re
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

from sndqn.errors import JsonError, RunFolderError
from sndqn.files import canonical_json, sha256_of, strict_json
from sndqn.files.storage import MAX_BYTES

SCHEMA = "sndqn-checkpoint-1"
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1024 * 1024
MAX_STEP = 10**12 - 1
_MAX_DEPTH = 16
# Lower case alone: two names that differ by case are one file on some systems.
CHUNK_FILE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}-[0-9a-f]{8}\.z")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FileRecord(TypedDict):
    """What a manifest says of a file: its SHA-256 in hexadecimal, and its size in bytes."""

    sha256: str
    size: int


class ChunkRef(TypedDict):
    """A chunk's file, as JSON data: SHA-256 and size of the compressed bytes, and raw size."""

    name: str
    file: str
    sha256: str
    size: int
    raw_size: int


@dataclass(frozen=True)
class Manifest:
    """What belongs to a checkpoint.

    Attributes:
        step: The step it was made at.
        files: Its own files, by name.
        chunks: Its chunks, shared with other checkpoints.
        info: JSON data that was saved with it.
    """

    step: int
    files: dict[str, FileRecord]
    chunks: list[ChunkRef]
    info: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Returns the one text of this manifest, with a hash of its own.

        Raises:
            RunFolderError: It could not be read back as it is.
        """
        body = {"schema": SCHEMA, **asdict(self)}
        try:
            content = _signed(body)
        except JsonError as error:
            raise RunFolderError(f"info: {error}") from None
        if Manifest.from_bytes(content) != self:
            raise RunFolderError(
                "info: expected what JSON gives back unchanged, found something else: "
                "use text as keys, and lists instead of tuples"
            )
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> "Manifest":
        """Reads a manifest, byte for byte as `to_bytes` would write it.

        Raises:
            RunFolderError: It is damaged, of an unknown schema, or out of bounds.
        """
        try:
            data = strict_json(content, MAX_MANIFEST_BYTES, _MAX_DEPTH)
        except JsonError as error:
            raise RunFolderError(f"{MANIFEST}: {error}") from None
        _expect(isinstance(data, dict), "an object", "something else")
        body = {key: part for key, part in data.items() if key != "sha256"}
        _expect(
            _signed(body) == content, "the content that its sha256 names", "another: it is damaged"
        )
        schema = body.pop("schema", None)
        _expect(schema == SCHEMA, f"schema {SCHEMA}, of this version of sndqn", repr(schema)[:80])
        _expect(set(body) == {"step", "files", "chunks", "info"}, "its four parts", "other ones")
        _expect(_is_count(body["step"], MAX_STEP), f"a step from 0 to {MAX_STEP}", "something else")
        _expect(isinstance(body["info"], dict), "info as an object", "something else")
        _check_files(body["files"])
        _expect(isinstance(body["chunks"], list), "a list of chunks", "something else")
        for ref in body["chunks"]:
            check_chunk(ref)
        return cls(**body)


def check_name(name: object) -> str:
    """Checks the name of a file or a chunk, and returns it.

    Raises:
        RunFolderError: It is not, or it is the manifest's own.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == MANIFEST:
        raise RunFolderError(
            f"expected a name of at most 64 small letters, digits, dots and dashes, other than "
            f"{MANIFEST}, found {str(name)[:80]!r}"
        )
    return name


def chunk_file(name: str, sha256: str) -> str:
    """Returns the file name of a chunk from its name and the hash of its compressed bytes."""
    return f"{name}-{sha256[:8]}.z"


def check_chunk(ref: object) -> ChunkRef:
    """Checks that a reference is well formed, and returns it.

    Raises:
        RunFolderError: It is not.
    """
    well_formed = (
        isinstance(ref, dict)
        and set(ref) == {"name", "file", "sha256", "size", "raw_size"}
        and ref["file"] == chunk_file(check_name(ref["name"]), _sha256(ref["sha256"]))
        and _is_count(ref["size"], MAX_BYTES)
        and _is_count(ref["raw_size"], MAX_BYTES)
    )
    _expect(well_formed, "a reference to a chunk, as `put_chunk` gives it", "something else")
    return ref  # type: ignore[return-value]


def _check_files(files: object) -> None:
    _expect(isinstance(files, dict), "files as an object", "something else")
    assert isinstance(files, dict)
    for name, record in files.items():
        check_name(name)
        well_formed = isinstance(record, dict) and set(record) == {"sha256", "size"}
        _expect(
            well_formed
            and bool(_sha256(record["sha256"]))
            and _is_count(record["size"], MAX_BYTES),
            f"sha256 and size of {name}, {MAX_BYTES} bytes at most",
            "something else",
        )


def _sha256(text: object) -> str:
    return text if isinstance(text, str) and _SHA256.fullmatch(text) else ""


def _is_count(number: object, most: int) -> bool:
    # Not isinstance: True is an int to Python, and no number here.
    return type(number) is int and 0 <= number <= most


def _expect(condition: bool, expected: str, found: str) -> None:
    if not condition:
        raise RunFolderError(f"{MANIFEST}: expected {expected}, found {found}")


def _signed(body: dict[str, Any]) -> bytes:
    return canonical_json({**body, "sha256": sha256_of(canonical_json(body))})
