"""Checkpoints of a run: each whole or not there at all, and the last good one always there.

run/checkpoints/step-000001200000/   named files and manifest.json; the last few are kept
run/chunks/NAME-SHA8.z               immutable compressed data that checkpoints share

A checkpoint is written under a temporary name, synced to the disk, and only then renamed;
an old one is renamed before anything of it is deleted. A power cut at any point leaves the newest
or the one before. A process that changes a run must hold its `RunLock`; one thread at a time.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from sndqn.errors import RunFolderError
from sndqn.files import Storage, sha256_of
from sndqn.files.atomic import TEMPORARY
from sndqn.runs.chunks import ChunkStore
from sndqn.runs.manifest import MANIFEST, MAX_MANIFEST_BYTES, ChunkRef, FileRecord, Manifest

_NAME = re.compile(r"step-(\d{12})(?:-(\d{1,6}))?")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        step: The step it was made at.
        files: Its files, by name.
        chunks: References to its chunks, for `get_chunk`.
        info: JSON data that was saved with it.
        skipped: Newer ones that were passed over, with the reason, one line each.
    """

    step: int
    files: dict[str, bytes]
    chunks: list[ChunkRef]
    info: dict[str, Any]
    skipped: list[str]


class CheckpointStore:
    """The checkpoints of one run.

    Making one touches nothing: a trainer calls `clean` once it has the lock, a reader does not.

    Args:
        run_path: The folder of the run.
        storage: What does the file work.
        keep: Checkpoints to keep, 1 at least.
    """

    def __init__(self, run_path: Path, storage: Storage | None = None, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep: expected 1 or more, found {keep}")
        self.storage = storage or Storage()
        self.run_path = run_path
        self.checkpoints = run_path / "checkpoints"
        self.chunks = ChunkStore(run_path / "chunks", self.storage)
        self.keep = keep
        self._prepared = False
        # Chunks written since the last save: the next one will name them.
        self._awaited: set[str] = set()
        # Checkpoints found damaged: they count for nothing and go with the next save.
        self._passed_over: set[str] = set()

    def put_chunk(self, name: str, data: bytes) -> ChunkRef:
        """Writes a compressed chunk to the disk, unless it is there already.

        It stays until the next successful `save`, and after that as long as a checkpoint names it.

        Args:
            name: Small letters, digits, dots and dashes.
            data: Any bytes.

        Raises:
            RunFolderError: The name is none, or the chunk cannot be written.
        """
        self._prepare()
        ref = self.chunks.put(name, data)
        self._awaited.add(ref["file"])
        return ref

    def get_chunk(self, ref: ChunkRef) -> bytes:
        """Reads a chunk, checks it and gives its data.

        Raises:
            RunFolderError: It is missing or damaged, or is not of the size it should be.
        """
        return self.chunks.get(ref)

    def save(
        self,
        step: int,
        files: Mapping[str, bytes],
        chunks: Sequence[ChunkRef],
        info: dict[str, Any],
    ) -> Path:
        """Writes a checkpoint, then removes what `keep` leaves out and chunks that none names.

        Args:
            step: The step it is of; not below that of a checkpoint that is good.
            files: Its files, by name.
            chunks: Its chunks, from `put_chunk` or from an earlier checkpoint.
            info: JSON data to keep with it.

        Returns:
            Its folder.

        Raises:
            RunFolderError: It is not saved, and the earlier ones are as they were; or it is, and
                an old one cannot be removed.
        """
        records = {
            name: FileRecord(sha256=sha256_of(content), size=len(content))
            for name, content in files.items()
        }
        manifest = Manifest(step, records, list(chunks), info).to_bytes()
        for ref in chunks:
            self.chunks.check(ref)
        final = self.checkpoints / self._new_name(step)
        self._prepare()
        self._write({**files, MANIFEST: manifest}, final)
        self._passed_over.discard(final.name)
        self._awaited.clear()
        try:
            self.prune()
        except RunFolderError as error:
            raise RunFolderError(f"{final} is saved, but what is older remains: {error}") from None
        return final

    def load_newest(self, with_chunks: bool = True) -> Checkpoint | None:
        """Reads the newest checkpoint of which every file and every chunk is as it was written.

        Args:
            with_chunks: Whether its chunks are looked at.

        Returns:
            It, or None if the run has no checkpoints.

        Raises:
            RunFolderError: There are checkpoints, but none is whole.
        """
        skipped: dict[str, str] = {}
        for name in self._names():
            try:
                checkpoint = self._load(name, list(skipped.values()), with_chunks)
            except RunFolderError as error:
                skipped[name] = f"{name}: {error}"
            else:
                self._passed_over = set(skipped)
                return checkpoint
        if skipped:
            raise RunFolderError(
                f"{self.checkpoints}: expected a whole checkpoint, found only damaged ones. Put "
                "back a copy, or train in a new folder\n" + "\n".join(skipped.values())
            )
        return None

    def clean(self) -> None:
        """Removes what an interrupted save left, and chunks that no checkpoint names.

        Raises:
            RunFolderError: It cannot be removed.
        """
        leftovers = [
            self.checkpoints / name
            for name in self.storage.list_dir(self.checkpoints)
            if name.startswith((TEMPORARY, ".del-"))
        ]
        leftovers += self.chunks.leftovers() + self._unnamed_chunks()
        if not leftovers:
            return
        # First, what is seen now must be on the disk: no power cut may bring back a checkpoint of
        # which parts are gone, or take away the one that made them needless.
        self._prepare()
        self.storage.fsync_dir(self.checkpoints)
        for path in leftovers:
            self.storage.remove_tree(path)

    def _prepare(self) -> None:
        """Makes the two folders, and brings their names to the disk once."""
        if self._prepared:
            return
        there = self.storage.list_dir(self.run_path)
        made = []
        try:
            for path in (self.checkpoints, self.chunks.folder):
                if path.name not in there:
                    self.storage.make_dir(path)
                    made.append(path)
                elif there[path.name] != "folder":
                    raise RunFolderError(f"{path}: expected a folder, found a {there[path.name]}")
            self.storage.fsync_dir(self.run_path)
        except BaseException:
            # A second fsync would not tell whether they are on the disk: made anew, they will be.
            for path in made:
                self.storage.discard(path)
            raise
        self._prepared = True

    def _write(self, files: Mapping[str, bytes], final: Path) -> None:
        """Writes the files of a checkpoint, in order; its folder appears when all are safe."""
        temporary = self._free(f"{TEMPORARY}{final.name}")
        try:
            self.storage.make_dir(temporary)
            for name, content in files.items():
                self.storage.write_file(temporary / name, content)
            self.storage.fsync_dir(temporary)
            self.storage.rename(temporary, final)
        except BaseException:
            self.storage.discard(temporary)
            raise
        try:
            self.storage.fsync_dir(self.checkpoints)
        except BaseException:
            # Seen, but perhaps not on the disk; and asking again would not tell.
            with suppress(RunFolderError):
                self.storage.remove_tree(self._put_aside(final.name))
            raise

    def prune(self) -> None:
        """Removes checkpoints that `keep` leaves out, and those that `load_newest` found damaged.

        Raises:
            RunFolderError: One cannot be removed.
        """
        kept: set[int] = set()
        for name in self._names():
            step, _ = _order(name)
            if name not in self._passed_over and step not in kept and len(kept) < self.keep:
                kept.add(step)
            else:
                self._put_aside(name)
        self.clean()

    def _put_aside(self, name: str) -> Path:
        """Takes a checkpoint out of those that are read, at one stroke."""
        aside = self._free(f".del-{name}")
        self.storage.rename(self.checkpoints / name, aside)
        return aside

    def _free(self, start: str) -> Path:
        taken = self.storage.list_dir(self.checkpoints)
        names = (f"{start}-{number}" for number in count(1))
        return self.checkpoints / next(name for name in names if name not in taken)

    def _names(self) -> list[str]:
        """Returns the names of all checkpoints, newest first, damaged ones too."""
        found = filter(_NAME.fullmatch, self.storage.list_dir(self.checkpoints))
        return sorted(found, key=_order, reverse=True)

    def _new_name(self, step: int) -> str:
        """Names a new checkpoint; a second one of the same step leaves the first alone."""
        names = self._names()
        newest = max(
            (_order(name) for name in names if name not in self._passed_over), default=None
        )
        if newest is not None and newest[0] > step:
            raise RunFolderError(
                f"{self.checkpoints}: expected none of a step after {step}, found one of "
                f"{newest[0]}: resume from it, or train in a new folder"
            )
        attempts = [attempt for other, attempt in map(_order, names) if other == step]
        return f"step-{step:012d}" + (f"-{max(attempts) + 1}" if attempts else "")

    def _unnamed_chunks(self) -> list[Path]:
        needed = set(self._awaited)
        for name in self._names():
            try:
                needed.update(ref["file"] for ref in self._read_manifest(name).chunks)
            except RunFolderError:
                return []  # which chunks it needs is unknown: all stay
        return self.chunks.all_but(needed)

    def _load(self, name: str, skipped: list[str], with_chunks: bool) -> Checkpoint:
        manifest = self._read_manifest(name)
        files = {
            file: self.storage.read_file(
                self.checkpoints / name / file, record["size"], record["sha256"]
            )
            for file, record in manifest.files.items()
        }
        for ref in manifest.chunks if with_chunks else []:
            self.chunks.read(ref)
        return Checkpoint(manifest.step, files, manifest.chunks, manifest.info, skipped)

    def _read_manifest(self, name: str) -> Manifest:
        folder = self.checkpoints / name
        for entry, kind in self.storage.list_dir(folder).items():
            if kind != "file":
                raise RunFolderError(f"expected nothing but files, found {entry!r}, a {kind}")
        content = self.storage.read_file(folder / MANIFEST, at_most=MAX_MANIFEST_BYTES)
        manifest = Manifest.from_bytes(content)
        if manifest.step != _order(name)[0]:
            raise RunFolderError(f"{MANIFEST}: expected another step, found {manifest.step}")
        return manifest


def _order(name: str) -> tuple[int, int]:
    """Returns step and attempt of a checkpoint from its name; the first attempt has no number."""
    match = _NAME.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[2] or 1)
