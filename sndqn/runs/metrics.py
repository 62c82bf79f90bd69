"""metrics.jsonl: one JSON object a line, through Stable-Baselines3's logger."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat

from sndqn.errors import RunFolderError


class JsonLines(KVWriter):
    """Appends each dump of the logger to a file, a line at a time.

    A line has "timesteps", "seconds" since the start, and the logged values by name.
    """

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", encoding="utf-8")
        self.start = time.monotonic()

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Writes one record."""
        record: dict[str, Any] = {
            "timesteps": step,
            "seconds": round(time.monotonic() - self.start, 3),
        }
        for key, value in sorted(key_values.items()):
            number = value.item() if hasattr(value, "item") else value
            if isinstance(number, int | float):
                # JSON has no NaN; a diverged value must still be seen.
                record[key] = number if math.isfinite(number) else str(number)
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


def make_logger(metrics: Path, tensorboard: Path | None) -> Logger:
    """Makes a logger that writes metrics.jsonl and, if asked, TensorBoard events."""
    formats: list[KVWriter] = [JsonLines(metrics)]
    if tensorboard is not None:
        formats.append(TensorBoardOutputFormat(str(tensorboard)))
    return Logger(folder=None, output_formats=formats)


def truncate(path: Path, n_bytes: int) -> None:
    """Cuts a metrics file to the length it had at a checkpoint, and waits for the disk.

    Args:
        path: The file.
        n_bytes: Bytes to keep, 0 or more.

    Raises:
        RunFolderError: It is missing or shorter, so lines are lost; or it cannot be written.
    """
    try:
        with path.open("r+b") as file:
            found = os.fstat(file.fileno()).st_size
            if found < n_bytes:
                raise RunFolderError(
                    f"{path}: expected the {n_bytes} bytes it had at the checkpoint, found "
                    f"{found}: put back the whole file, or train in a new folder"
                )
            file.truncate(n_bytes)
            os.fsync(file.fileno())
    except OSError as error:
        raise RunFolderError(
            f"cannot cut {path} to {n_bytes} bytes: {error.strerror}. Put it back as it was, "
            "yours to write"
        ) from None
