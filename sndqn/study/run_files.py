"""What the files of a run say of its course, read within bounds and trusting nothing.

A run may still be going on: the last line of a file may be half written, and is then left out.
"""

import io
import math
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sndqn.errors import RunFolderError, SndqnError, shortened
from sndqn.files import read_bytes, strict_json

MAX_LINES = 250
"""Lines that are read of a file: of a longer one, evenly many, and the last."""

_MAX_BYTES = 512 * 2**20
_MAX_LINE = 256 * 1024
_MAX_NPZ = 64 * 2**20
_MAX_STEPS = 10**15
_MAX_NAMES = 400
_LONGEST_NAME = 200

Numbers = NDArray[np.float64]
Points = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Series:
    """A quantity over a training.

    Attributes:
        timesteps: Environment steps, shape (n,), never falling.
        values: The quantity there, shape (n,); NaN where it was not finite.
    """

    timesteps: Numbers
    values: Numbers


@dataclass(frozen=True)
class Course:
    """What was measured on the way.

    Attributes:
        totals: By the name of the quantity: of the whole network or training.
        layers: By the name of the quantity, then by the layer.
        timesteps: The last step that anything is known of.
    """

    totals: Mapping[str, Series]
    layers: Mapping[str, Mapping[str, Series]]
    timesteps: int


def read_course(metrics: Path, diagnostics: Path) -> Course:
    """Reads metrics.jsonl and diagnostics.jsonl; one that is not there says nothing.

    σ of a layer, `sn/LAYER/sigma`, is the quantity "sigma" of that layer.

    Raises:
        RunFolderError: A line is not what the file's lines are.
    """
    totals: Points = defaultdict(list)
    layers: dict[str, Points] = defaultdict(lambda: defaultdict(list))
    last = 0
    for path in (metrics, diagnostics):
        for number, record in read_records(path):
            where = f"{path}: line {number}"
            step = _step(where, record)
            last = max(last, step)
            for quantity, layer, value in _values(where, record):
                points = totals[quantity] if layer is None else layers[quantity][layer]
                points.append((step, value))
            if len(totals) + sum(map(len, layers.values())) > _MAX_NAMES:
                raise RunFolderError(f"{where}: expected at most {_MAX_NAMES} quantities")
    return Course(
        totals={name: _series(points) for name, points in totals.items()},
        layers={
            name: {layer: _series(points) for layer, points in by_layer.items()}
            for name, by_layer in layers.items()
        },
        timesteps=last,
    )


def read_records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Reads lines of JSON, at most about `MAX_LINES` of them, with their numbers from 1.

    Raises:
        RunFolderError: A line that is read is no JSON object.
    """
    if not path.is_file():
        return []
    try:
        whole, end, _ = read_bytes(path, _MAX_BYTES).rpartition(b"\n")
    except SndqnError as error:
        raise RunFolderError(f"{path}: {error}") from None
    lines = whole.split(b"\n") if end else []
    records = []
    for index in _evenly(len(lines)):
        try:
            record = strict_json(lines[index], _MAX_LINE)
        except SndqnError as error:
            raise RunFolderError(f"{path}: line {index + 1}: {error}") from None
        records.append((index + 1, _mapping(f"{path}: line {index + 1}", record)))
    return records


def read_seconds(path: Path) -> float | None:
    """Reads from timing.jsonl how long was trained; None where that is not known."""
    records = read_records(path)
    if not records:
        return None
    number, record = records[-1]
    seconds = _number(f"{path}: line {number}", record.get("seconds"))
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def read_evaluations(path: Path) -> Series | None:
    """Reads the mean return of every evaluation on the way; None where there is none.

    Raises:
        RunFolderError: It is not a file as Stable-Baselines3's `EvalCallback` writes it.
    """
    if not path.is_file():
        return None
    try:
        content = read_bytes(path, _MAX_NPZ)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > _MAX_NPZ:
            raise RunFolderError(f"expected at most {_MAX_NPZ} bytes unpacked, found {size}")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            steps = np.asarray(arrays["timesteps"], np.float64)
            returns = np.asarray(arrays["results"], np.float64)
    except SndqnError as error:
        raise RunFolderError(f"{path}: {error}") from None
    except (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, SyntaxError) as error:
        raise _damaged(path, error) from None
    except (zipfile.BadZipFile, zlib.error, MemoryError, RecursionError) as error:
        raise _damaged(path, error) from None
    if steps.ndim != 1 or returns.ndim != 2 or len(returns) != len(steps) or not returns.size:
        raise RunFolderError(
            f"{path}: expected returns by evaluation and episode, found shapes {steps.shape} and "
            f"{returns.shape}"
        )
    if not (np.isfinite(steps).all() and np.isfinite(returns).all() and np.all(steps >= 0)):
        raise RunFolderError(f"{path}: expected finite numbers, found others")
    if np.any(np.diff(steps) < 0) or steps[-1] > _MAX_STEPS:
        raise RunFolderError(f"{path}: expected steps that rise to {_MAX_STEPS} at most")
    return Series(steps, returns.mean(axis=1))


def _damaged(path: Path, error: BaseException) -> RunFolderError:
    return RunFolderError(f"{path}: expected evaluations as an .npz file, found {shortened(error)}")


def _evenly(n: int) -> list[int]:
    """Returns at most about `MAX_LINES` of n indices, the first and the last among them.

    They come in pairs: where lines of two kinds alternate, both are read.
    """
    stride = -(-n // MAX_LINES)
    return [index for index in range(n) if index // 2 % stride == 0 or index == n - 1]


def _values(where: str, record: Mapping[str, Any]) -> Iterator[tuple[str, str | None, float]]:
    """Yields quantity, layer and value of all that a record says; of no layer, None."""
    for name, value in record.items():
        if name not in ("timesteps", "layers"):
            number, parts = _number(where, value), _name(where, name).split("/")
            if parts[0] == "sn" and len(parts) > 2:
                yield parts[-1], "/".join(parts[1:-1]), number
            else:
                yield name, None, number
    for layer, quantities in _mapping(where, record.get("layers", {})).items():
        for name, value in _mapping(where, quantities).items():
            yield _name(where, name), _name(where, layer), _number(where, value)


def _name(where: str, name: str) -> str:
    if len(name) > _LONGEST_NAME:
        raise RunFolderError(
            f"{where}: expected names of at most {_LONGEST_NAME} characters, found {len(name)}"
        )
    return name


def _series(points: list[tuple[int, float]]) -> Series:
    ordered = np.array(sorted(points, key=lambda point: point[0]), np.float64)
    return Series(ordered[:, 0], ordered[:, 1])


def _step(where: str, record: Mapping[str, Any]) -> int:
    step = record.get("timesteps")
    if type(step) is not int or not 0 <= step <= _MAX_STEPS:
        raise RunFolderError(f"{where}: expected timesteps, found {shortened(step)}")
    return step


def _number(where: str, value: object) -> float:
    """Reads a number; what a diverged run writes, null, "nan", "inf" and "-inf", is NaN."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300:
        return float(value)
    if value is None or value in ("nan", "inf", "-inf"):
        return math.nan
    raise RunFolderError(f"{where}: expected a number, found {shortened(value)}")


def _mapping(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RunFolderError(f"{where}: expected {{name: value}}, found {shortened(value)}")
    return value
