"""An evaluation under way, in a file: once interrupted, it goes on with the missing episodes.

The first line says of which agent, environment and protocol the episodes are, and with which
packages they were played; each further line is an episode's number and its trace. What is not of
the same evaluation, or damaged, is not taken.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sndqn.errors import RunFolderError, SndqnError
from sndqn.evaluation.recording import package_versions
from sndqn.evaluation.traces import MAX_FILE_BYTES, Trace
from sndqn.files import read_lines, strict_json, write_text

if TYPE_CHECKING:
    from sndqn.envs import EnvSettings
    from sndqn.evaluation.protocol import EvaluationProtocol

SCHEMA = "sndqn-unfinished-evaluation-1"
_SECONDS_BETWEEN_WRITES = 5.0


class UnfinishedEvaluation:
    """The finished episodes of an evaluation that is not.

    Args:
        path: The file; None keeps episodes in memory alone.
        settings: Of the environment.
        protocol: How the agent is evaluated.
        agent_sha256: SHA-256 of the agent's file.

    Attributes:
        traces: Finished episodes by number; those of the file at first.
    """

    def __init__(
        self,
        path: Path | None,
        settings: "EnvSettings",
        protocol: "EvaluationProtocol",
        agent_sha256: str | None,
    ) -> None:
        self._path = path
        self._protocol = protocol
        header = {
            "schema": SCHEMA,
            "agent_sha256": agent_sha256,
            "settings": settings.to_dict(),
            "protocol": protocol.to_dict(),
            "versions": package_versions(),
        }
        self._header = json.loads(json.dumps(header))  # a tuple is a list, as in the file
        self.traces: dict[int, Trace] = {} if path is None else self._read(path)
        self._lines = {number: _line(number, trace) for number, trace in self.traces.items()}
        self._written, self._next_write = len(self.traces), 0.0

    def add(self, number: int, trace: Trace) -> None:
        """Takes a finished episode; the file may have it some seconds later, see `write`."""
        self.traces[number] = trace
        if self._path is not None:
            self._lines[number] = _line(number, trace)
            if time.monotonic() >= self._next_write:
                self.write()

    def write(self) -> None:
        """Writes the file, if there is something new, wholly or not at all.

        Raises:
            RunFolderError: It cannot be written.
        """
        if self._path is None or self._written == len(self._lines):
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(self._header), *self._lines.values()]
        write_text(self._path, "".join(f"{line}\n" for line in lines))
        self._written = len(self._lines)
        self._next_write = time.monotonic() + _SECONDS_BETWEEN_WRITES

    def _read(self, path: Path) -> dict[int, Trace]:
        """Reads the episodes of the same evaluation; up to the first that is damaged."""
        traces: dict[int, Trace] = {}
        try:
            lines = read_lines(path, MAX_FILE_BYTES) if path.is_file() else iter(())
            if strict_json(next(lines, b"null"), MAX_FILE_BYTES) != self._header:
                return {}
            for line in lines:
                own = strict_json(line, MAX_FILE_BYTES)
                number, trace = own["episode"], Trace.from_dict(own["trace"])
                if not self._is_of(number, trace):
                    break
                traces[number] = trace
        except (SndqnError, OSError, KeyError, TypeError):
            pass
        return traces

    def _is_of(self, number: Any, trace: Trace) -> bool:
        """Says whether a trace is the episode of that number."""
        if type(number) is not int or not 0 <= number < self._protocol.episodes:
            return False
        expected = {**self._header, "seed": self._protocol.episode_seed(number)}
        names = ("agent_sha256", "settings", "versions", "seed")
        limit = self._protocol.max_steps or trace.length
        return (
            all(getattr(trace, name) == expected[name] for name in names)
            and trace.epsilon == self._protocol.epsilon
            and trace.length <= limit
            and (trace.ended_by != "hopeless" or self._protocol.end_hopeless)
        )


def _line(number: int, trace: Trace) -> str:
    return json.dumps({"episode": number, "trace": trace.to_dict()}, allow_nan=False)


def forget(path: Path) -> None:
    """Removes the file of an evaluation that is finished, and whose record is written.

    Raises:
        RunFolderError: It cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot remove {path}: {error.strerror}") from None
