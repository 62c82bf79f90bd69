"""Files, each done in one way: read within bounds, written whole, JSON strict and canonical."""

from sndqn.files.atomic import write_bytes, write_json, write_text, written_whole
from sndqn.files.digest import canonical_json, sha256_of
from sndqn.files.reading import read_bytes, read_json, read_lines, strict_json
from sndqn.files.storage import Storage

__all__ = [
    "Storage",
    "canonical_json",
    "read_bytes",
    "read_json",
    "read_lines",
    "sha256_of",
    "strict_json",
    "write_bytes",
    "write_json",
    "write_text",
    "written_whole",
]
