"""metrics.jsonl: one JSON object a line, through Stable-Baselines3's logger.

It is the record of a run, and the same to the bit for the same configuration and seed, however
often the run was interrupted. What the clock says stands in timing.jsonl, line for line beside it;
TensorBoard's events are made from both.

diagnostics.jsonl has an object for each measurement of `sndqn.diagnostics`: "timesteps", numbers by
name, and "layers", numbers of each weight layer by its name. It is the same to the bit as well.

0.monitor.csv has a line for each training game, in the form of Stable-Baselines3's `Monitor`, which
its plotting and the zoo's read.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from stable_baselines3.common.logger import KVWriter, Logger

from sndqn.errors import RunFolderError

_BY_THE_CLOCK = ("time/fps", "time/time_elapsed")


class MetricsPaths(NamedTuple):
    """The files of a run's metrics; those that are None are not written."""

    metrics: Path
    timing: Path
    tensorboard: Path | None = None
    games: Path | None = None
    diagnostics: Path | None = None


Also = Callable[[int, Mapping[str, Any]], None]
"""Takes the numbers of a record as well: the step, and the numbers by name."""


class MetricsWriter(KVWriter):
    """Appends each dump of the logger to the files of a run, a line at a time.

    A line has "timesteps", then in metrics.jsonl the logged values by name, in timing.jsonl
    "seconds" of training, those before an interruption included, and steps per second.
    """

    def __init__(self, paths: MetricsPaths, also: Also | None = None) -> None:
        self.also = also
        earlier = _last_seconds(paths.timing)
        self.start = time.monotonic() - earlier
        self.metrics = paths.metrics.open("a", encoding="utf-8")
        self.timing = paths.timing.open("a", encoding="utf-8")
        self.events = _events(paths.tensorboard) if paths.tensorboard is not None else None
        self.games = None if paths.games is None else _open_games(paths.games)
        self.diagnostics = None
        if paths.diagnostics is not None:
            self.diagnostics = paths.diagnostics.open("a", encoding="utf-8")

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Writes one record.

        Raises:
            RunFolderError: The disk is full, or the files are gone.
        """
        record: dict[str, Any] = {"timesteps": step}
        clock: dict[str, Any] = {
            "timesteps": step,
            "seconds": round(time.monotonic() - self.start, 3),
        }
        for key, value in sorted(key_values.items()):
            number = value.item() if hasattr(value, "item") else value
            if isinstance(number, int | float):
                (clock if key in _BY_THE_CLOCK else record)[key] = _shown(number)
        try:
            for file, line in ((self.metrics, record), (self.timing, clock)):
                file.write(json.dumps(line) + "\n")
                file.flush()
            if self.games is not None:
                self.games.flush()
            if self.events is not None:
                _add_scalars(self.events, record, clock)
            if self.also is not None:
                self.also(step, {**clock, **record})
        except OSError as error:
            raise _not_written(self.metrics, error) from None

    def write_game(self, total: float, length: int, timesteps: int) -> None:
        """Writes a line of a training game that ended: return, steps, seconds, steps so far.

        Raises:
            RunFolderError: The disk is full, or the file is gone.
        """
        if self.games is None:
            return
        seconds = time.monotonic() - self.start
        try:
            self.games.write(f"{total:g},{length},{seconds:.6f},{timesteps}\n")
        except OSError as error:
            raise _not_written(self.games, error) from None

    def write_diagnostics(
        self, timesteps: int, values: Mapping[str, float], layers: Mapping[str, Mapping[str, float]]
    ) -> None:
        """Writes a line of diagnostics, and TensorBoard's scalars under diagnostics/.

        Args:
            timesteps: The step they are of.
            values: Numbers by name.
            layers: Numbers of each weight layer by name.

        Raises:
            RunFolderError: The disk is full, or the file is gone.
        """
        if self.diagnostics is None:
            return
        record: dict[str, Any] = {"timesteps": timesteps}
        record |= {name: _shown(value) for name, value in values.items()}
        record["layers"] = {
            layer: {name: _shown(value) for name, value in found.items()}
            for layer, found in layers.items()
        }
        try:
            self.diagnostics.write(json.dumps(record) + "\n")
            self.diagnostics.flush()
            if self.events is not None:
                _add_diagnostics(self.events, record)
            if self.also is not None:
                self.also(timesteps, _flat_diagnostics(record))
        except OSError as error:
            raise _not_written(self.diagnostics, error) from None

    def _files(self) -> list[TextIO]:
        files = (self.metrics, self.timing, self.games, self.diagnostics)
        return [file for file in files if file is not None]

    def lengths(self) -> dict[str, int]:
        """Brings the files to the disk and returns their lengths in bytes, by name.

        Raises:
            RunFolderError: The disk is full.
        """
        found = {}
        for file in self._files():
            try:
                file.flush()
                os.fsync(file.fileno())
                found[Path(file.name).name] = os.fstat(file.fileno()).st_size
            except OSError as error:
                raise RunFolderError(f"cannot write {file.name}: {error.strerror}") from None
        return found

    def close(self) -> None:
        """Closes the files."""
        for file in self._files():
            with suppress(OSError):  # of a full disk, which was said when it was written to
                file.close()
        if self.events is not None:
            self.events.close()


def _open_games(path: Path) -> TextIO:
    """Opens a file of games, with the header that readers of Monitor's files expect."""
    file = path.open("a", encoding="utf-8")
    if file.tell() == 0:
        file.write(f"#{json.dumps({'t_start': time.time()})}\nr,l,t,timesteps\n")
    return file


def _not_written(file: TextIO, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"cannot write {file.name}: {error.strerror}. Make room on its disk, then type sndqn train "
        "--resume with the run's folder"
    )


def make_logger(paths: MetricsPaths, also: Also | None = None) -> Logger:
    """Makes a logger that goes on writing a run's metrics.

    Args:
        paths: Where to.
        also: What takes the numbers of each record as well.
    """
    return Logger(folder=None, output_formats=[MetricsWriter(paths, also)])


def last_step(metrics: Path) -> int:
    """Returns the step of the last whole record; -1 where there is none."""
    try:
        lines = metrics.read_bytes().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["timesteps"])
    except (OSError, IndexError, ValueError, KeyError, TypeError):
        return -1


def rebuild_tensorboard(
    metrics: Path, timing: Path, tensorboard: Path, diagnostics: Path | None = None
) -> int:
    """Makes a run's TensorBoard events anew from its metrics; gives the number of records.

    Raises:
        RunFolderError: The metrics are missing, or damaged.
    """
    try:
        records = _read_lines(metrics)
        clocks = _read_lines(timing) if timing.is_file() else [{} for _ in records]
        measured = _read_lines(diagnostics) if diagnostics and diagnostics.is_file() else []
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{metrics}: no metrics to read: {error}") from None
    if tensorboard.is_dir() and not tensorboard.is_symlink():
        shutil.rmtree(tensorboard)
    events = _events(tensorboard)
    for record, clock in zip(records, clocks, strict=False):
        _add_scalars(events, record, clock)
    for record in measured:
        _add_diagnostics(events, record)
    events.close()
    return len(records)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _events(folder: Path) -> Any:
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(str(folder))


def _add_scalars(events: Any, record: Mapping[str, Any], clock: Mapping[str, Any]) -> None:
    for key, value in {**clock, **record}.items():
        if key not in ("timesteps", "seconds"):
            events.add_scalar(key, float(value), record["timesteps"])
    events.flush()


def _add_diagnostics(events: Any, record: Mapping[str, Any]) -> None:
    for name, value in _flat_diagnostics(record).items():
        events.add_scalar(name, float(value), record["timesteps"])
    events.flush()


def _flat_diagnostics(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the numbers of a line of diagnostics by names such as diagnostics/LAYER/sigma."""
    parts = {"diagnostics": record}
    parts |= {f"diagnostics/{layer}": found for layer, found in record["layers"].items()}
    return {
        f"{place}/{name}": value
        for place, found in parts.items()
        for name, value in found.items()
        if name not in ("timesteps", "layers")
    }


def _shown(number: float) -> float | str:
    """Returns what stands for a number in JSON, which has no NaN: a diverged value must be seen."""
    return number if math.isfinite(number) else str(number)


def _last_seconds(timing: Path) -> float:
    if not timing.is_file():
        return 0.0
    *_, last = [{"seconds": 0.0}, *_read_lines(timing)]
    return float(last["seconds"])


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
