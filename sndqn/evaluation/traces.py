"""A trace: one episode, small enough to keep beside a score and complete enough to prove it.

The file is JSON with base64 of zlib-compressed little-endian arrays: nothing in it can run code.
Reading trusts nothing: keys, types, sizes, and a SHA-256 over the content are checked, and what an
attacker recomputes along with the SHA-256 is caught by the replay (`recording.replay_trace`).
A replay cannot check what does not change the episode: `epsilon`, `agent_sha256`, `versions`, and
actions that the game ignores. There the file's word is not proved.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from sndqn.errors import JsonError, SndqnError, TraceError
from sndqn.evaluation.encoding import hex_of, pack_array, unpack_array
from sndqn.files import canonical_json, read_json, sha256_of, written_whole

EndedBy = Literal["terminated", "truncated", "max_steps", "hopeless"]

SCHEMA = "sndqn-trace-1"
MAX_STEPS = 1_000_000
MAX_FILE_BYTES = 16 * 2**20

_ACTION = np.dtype("<u2")
_REWARD = np.dtype("<f4")
_FINGERPRINT = {"crc32": np.dtype("<u4"), "sum": np.dtype("<f4")}
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "schema": (str,),
    "settings": (dict,),
    "seed": (int,),
    "epsilon": (float,),
    "length": (int,),
    "episode_return": (float,),
    "ended_by": (str,),
    "fingerprint_kind": (str,),
    "actions": (str,),
    "rewards": (str,),
    "fingerprints": (str,),
    "versions": (dict,),
    "agent_sha256": (str, type(None)),
    "sha256": (str,),
}


@dataclass(frozen=True, eq=False)
class Trace:
    """One episode as (environment settings, seed, actions) and what came of it.

    Two traces are equal if their content is. The arrays are made read-only copies.

    Attributes:
        settings: The environment's settings, as `settings.to_dict()` gives them.
        seed: Seed of the reset.
        epsilon: Probability of a random action under which the agent played.
        actions: Shape (length,), uint16.
        rewards: Shape (length,), float32.
        fingerprints: Shape (length + 1,), the reset first. uint32: CRC-32 of an integer
            observation, to be met exactly; float32: sum of a float observation, to be met closely.
        ended_by: "terminated", "truncated" (the environment's limit), "max_steps" (cut), or
            "hopeless" (cut since nothing happened, see `hopeless.Stillness`).
        versions: Versions of the packages that made the environment.
        agent_sha256: SHA-256 of the agent's file; None for an agent that was in no file.

    Raises:
        TraceError: The parts contradict each other or are out of range.
    """

    settings: dict[str, Any]
    seed: int
    epsilon: float
    actions: np.ndarray
    rewards: np.ndarray
    fingerprints: np.ndarray
    ended_by: EndedBy
    versions: dict[str, str]
    agent_sha256: str | None = None

    def __post_init__(self) -> None:
        exact = np.issubdtype(np.asarray(self.fingerprints).dtype, np.integer)
        kind = "crc32" if exact else "sum"
        for name, dtype in (
            ("actions", _ACTION),
            ("rewards", _REWARD),
            ("fingerprints", _FINGERPRINT[kind]),
        ):
            array = np.array(getattr(self, name), dtype=dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        # Through JSON and back: a tuple becomes the list that a reader of the file will see.
        try:
            settings = json.loads(canonical_json(self.settings))
        except JsonError as error:
            raise TraceError(str(error)) from None
        object.__setattr__(self, "settings", settings)
        self._check()

    def _check(self) -> None:
        length = self.length
        sizes = (self.rewards.shape, self.fingerprints.shape)
        if not 1 <= length <= MAX_STEPS:
            raise TraceError(f"expected 1 to {MAX_STEPS} steps, found {length}; record it again")
        if sizes != ((length,), (length + 1,)):
            raise TraceError(f"expected one reward per action ({length}), found sizes {sizes}")
        if not (np.isfinite(self.rewards).all() and np.isfinite(self.fingerprints).all()):
            raise TraceError("expected finite rewards and observations, found NaN or infinity")
        if not 0 <= self.seed < 2**32:
            raise TraceError(f"expected a seed from 0 to 2**32 - 1, found {self.seed}")
        if not 0.0 <= self.epsilon <= 1.0:
            raise TraceError(f"expected epsilon from 0 to 1, found {self.epsilon}")
        if self.ended_by not in get_args(EndedBy):
            raise TraceError(f"expected ended_by in {get_args(EndedBy)}, found {self.ended_by!r}")
        # They are printed, and a file from elsewhere must not steer a terminal.
        words = [*self.versions.keys(), *self.versions.values()]
        if not all(isinstance(word, str) and word.isprintable() for word in words):
            raise TraceError("expected versions as printable text, found other content")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trace) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    @property
    def length(self) -> int:
        """Number of actions."""
        return len(self.actions)

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of the rewards, correctly rounded, so the same on every machine."""
        return math.fsum(self.rewards.tolist())

    @property
    def fingerprint_kind(self) -> str:
        """How fingerprints were taken: "crc32", met exactly, or "sum", met closely."""
        return "crc32" if self.fingerprints.dtype == _FINGERPRINT["crc32"] else "sum"

    @property
    def sha256(self) -> str:
        """SHA-256 over the canonical JSON of the content, arrays as plain little-endian hex.

        Taken before compression: another zlib writes other bytes for the same content.
        """
        return sha256_of(canonical_json(self._content(hex_of)))

    def _content(self, encode: Callable[[np.ndarray], str]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "settings": self.settings,
            "seed": int(self.seed),
            "epsilon": float(self.epsilon),
            "length": self.length,
            "episode_return": self.episode_return,
            "ended_by": self.ended_by,
            "fingerprint_kind": self.fingerprint_kind,
            "actions": encode(self.actions),
            "rewards": encode(self.rewards),
            "fingerprints": encode(self.fingerprints),
            "versions": self.versions,
            "agent_sha256": self.agent_sha256,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file, ready for JSON."""
        return {**self._content(pack_array), "sha256": self.sha256}

    @classmethod
    def from_dict(cls, document: object) -> "Trace":
        """Build a trace from what `to_dict` gave, checking everything.

        Raises:
            TraceError: Anything is missing, unknown, of the wrong type or size, or was changed.
        """
        fields = _checked_fields(document)
        length = fields["length"]
        if not 1 <= length <= MAX_STEPS:
            raise TraceError(f"expected 1 to {MAX_STEPS} steps, found {length}")
        kind = fields["fingerprint_kind"]
        if kind not in _FINGERPRINT:
            raise TraceError(f"expected fingerprint_kind crc32 or sum, found {kind[:40]!r}")
        trace = cls(
            settings=fields["settings"],
            seed=fields["seed"],
            epsilon=fields["epsilon"],
            actions=unpack_array("actions", fields["actions"], length, _ACTION),
            rewards=unpack_array("rewards", fields["rewards"], length, _REWARD),
            fingerprints=unpack_array(
                "fingerprints", fields["fingerprints"], length + 1, _FINGERPRINT[kind]
            ),
            ended_by=cast(EndedBy, fields["ended_by"]),
            versions=fields["versions"],
            agent_sha256=fields["agent_sha256"],
        )
        if (trace.episode_return, trace.sha256) != (fields["episode_return"], fields["sha256"]):
            raise TraceError(
                "expected the SHA-256 and return written with it, found others: "
                "the trace was changed after it was written; get the original"
            )
        return trace


def write_trace(path: Path, trace: Trace) -> None:
    """Write a trace as one JSON file, wholly or not at all.

    Raises:
        RunFolderError: The file cannot be written.
    """
    text = json.dumps(trace.to_dict(), indent=1, allow_nan=False) + "\n"
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_trace(path: Path) -> Trace:
    """Read a trace, refusing every file that `write_trace` did not write as it is.

    Raises:
        TraceError: The file cannot be read, is no trace, or was changed.
    """
    try:
        return Trace.from_dict(read_json(path, MAX_FILE_BYTES))
    except SndqnError as error:
        raise TraceError(f"{path}: {error}") from None


def _checked_fields(document: object) -> dict[str, Any]:
    """Return `document` if it has exactly the keys and types of the schema."""
    if not isinstance(document, dict):
        raise TraceError(f"expected a JSON object, found {type(document).__name__}")
    if document.get("schema") != SCHEMA:
        found = str(document.get("schema"))[:40]
        raise TraceError(f"expected schema {SCHEMA}, found {found!r}; use the sndqn that wrote it")
    wrong_keys = sorted(document.keys() ^ _JSON_TYPES.keys())
    if wrong_keys:
        raise TraceError(f"expected the keys of {SCHEMA}, missing or unknown: {wrong_keys[:5]}")
    for key, types in _JSON_TYPES.items():
        if type(document[key]) not in types:
            expected = types[0].__name__
            raise TraceError(f"expected {key} as {expected}, found {type(document[key]).__name__}")
    return document
