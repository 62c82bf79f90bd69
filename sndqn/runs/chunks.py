"""Chunks: immutable compressed files that checkpoints of a run share, named by their content."""

import zlib
from collections.abc import Set
from pathlib import Path

from sndqn.errors import RunFolderError
from sndqn.files.atomic import TEMPORARY, write_bytes
from sndqn.files.digest import sha256_of
from sndqn.files.storage import MAX_BYTES, Storage
from sndqn.runs.manifest import CHUNK_FILE, ChunkRef, check_chunk, check_name, chunk_file

_ZLIB_LEVEL = 1  # Frames shrink 13 to 69 times at this level already.


class ChunkStore:
    """The folder of chunks of one run.

    Args:
        folder: The folder; it must exist before a chunk is written.
        storage: What does the file work.
    """

    def __init__(self, folder: Path, storage: Storage) -> None:
        self.folder = folder
        self.storage = storage
        # Whole, but perhaps not on the disk: waiting for it failed.
        self._unsure: set[str] = set()

    def put(self, name: str, data: bytes) -> ChunkRef:
        """Compresses data and writes it to the disk, unless it is there already.

        Raises:
            RunFolderError: The name is none, or the chunk cannot be written.
        """
        if len(data) > MAX_BYTES:
            raise RunFolderError(f"{name}: expected {MAX_BYTES} bytes at most, found {len(data)}")
        content = zlib.compress(data, _ZLIB_LEVEL)
        sha256 = sha256_of(content)
        file = chunk_file(check_name(name), sha256)
        if not self._holds(file, content):
            # The run's lock keeps others out: what a killed process left is written over.
            write_bytes(self.folder / file, content, self.storage, mark="")
        # Also for one that lay there: a process that was killed may not have waited for the disk.
        self._unsure.add(file)
        self.storage.fsync_dir(self.folder)
        self._unsure.discard(file)
        return ChunkRef(name=name, file=file, sha256=sha256, size=len(content), raw_size=len(data))

    def get(self, ref: ChunkRef) -> bytes:
        """Reads a chunk and gives its data.

        Raises:
            RunFolderError: It is missing or damaged, or is not of the size it should be.
        """
        content = self.read(ref)
        path, raw_size = self.folder / ref["file"], ref["raw_size"]
        unpacker = zlib.decompressobj()
        try:
            # One byte more than due shows that there is more, without unpacking it.
            data = unpacker.decompress(content, raw_size + 1)
        except zlib.error as error:
            raise RunFolderError(f"{path}: expected compressed data, found {error}") from None
        if len(data) != raw_size or not unpacker.eof or unpacker.unused_data:
            raise RunFolderError(f"{path}: expected {raw_size} bytes in it, found another number")
        return data

    def read(self, ref: ChunkRef) -> bytes:
        """Reads the compressed bytes of a chunk and checks them.

        Raises:
            RunFolderError: It is missing or damaged.
        """
        file = check_chunk(ref)["file"]
        return self.storage.read_file(self.folder / file, ref["size"], ref["sha256"])

    def check(self, ref: ChunkRef) -> None:
        """Looks whether a chunk is there, by its size alone.

        Raises:
            RunFolderError: It is not.
        """
        self.storage.check_file(self.folder / check_chunk(ref)["file"], ref["size"])

    def leftovers(self) -> list[Path]:
        """Returns what an interrupted `put` left."""
        names = self.storage.list_dir(self.folder)
        return [self.folder / name for name in names if name.startswith(TEMPORARY)]

    def all_but(self, needed: Set[str]) -> list[Path]:
        """Returns the chunks whose files are not among those needed."""
        found = filter(CHUNK_FILE.fullmatch, self.storage.list_dir(self.folder))
        return [self.folder / file for file in found if file not in needed]

    def _holds(self, file: str, content: bytes) -> bool:
        if file in self._unsure:
            return False  # Renaming anew makes the disk write the name anew.
        try:
            return self.storage.read_file(self.folder / file, len(content)) == content
        except RunFolderError:
            return False  # Missing, or damaged: then it is written over the damage.
