"""Why a run of a study cannot go on: its failed.json, until it is tried again."""

import json
from dataclasses import dataclass
from pathlib import Path

from sndqn.errors import printable
from sndqn.files import write_json
from sndqn.runs.folder import RunFolder, now


@dataclass(frozen=True)
class Failure:
    """Why a run cannot go on.

    Attributes:
        message: What happened, in a line or two.
        at: When.
    """

    message: str
    at: str


def note_failure(folder: RunFolder, message: str) -> None:
    """Writes why a run cannot go on."""
    write_json(_file(folder.path), {"message": printable(message), "at": now()})


def read_failure(folder: RunFolder) -> Failure | None:
    """Reads why a run cannot go on; None where it can."""
    try:
        found = json.loads(_file(folder.path).read_text(encoding="utf-8"))
        return Failure(str(found["message"]), str(found["at"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        return Failure("failed.json is not readable", "")


def forget_failure(folder: RunFolder) -> None:
    """Lets a run be tried again."""
    _file(folder.path).unlink(missing_ok=True)


def _file(path: Path) -> Path:
    return path / "failed.json"
