"""How far a run is, from the ends of its files: cheap to ask, while it is being made."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sndqn.runs.folder import RunFolder

_TAIL_BYTES = 4096
_RECORDS = 10


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Steps recorded so far, over all its tasks.
        rate: Steps per second over the last records; None before the second.
        mean_return: Of its final evaluation if there is one, else of the last games of training, as
            the newest record has it; of several tasks the mean. None where there is none.
        evaluated: Whether that is the final evaluation's.
    """

    step: int = 0
    rate: float | None = None
    mean_return: float | None = None
    evaluated: bool = False


def read_progress(folder: RunFolder) -> Progress:
    """Reads how far a run is; one that is damaged looks as if it had not begun."""
    parts = [RunFolder(found.parent) for found in sorted(folder.path.glob("*/config.yaml"))]
    found = [_progress(part) for part in parts or [folder]]
    rates = [each.rate for each in found if each.rate is not None]
    returns = [each.mean_return for each in found if each.mean_return is not None]
    return Progress(
        step=sum(each.step for each in found),
        rate=sum(rates) if rates else None,
        mean_return=sum(returns) / len(returns) if len(returns) == len(found) else None,
        evaluated=all(each.evaluated for each in found),
    )


def _progress(folder: RunFolder) -> Progress:
    clocks = _last_records(folder.timing)
    step = int(clocks[-1].get("timesteps", 0)) if clocks else 0
    evaluation = _evaluated_return(folder.evaluation)
    if evaluation is not None:
        return Progress(step, _rate(clocks), evaluation, evaluated=True)
    records = _last_records(folder.metrics)
    returns = [record["rollout/ep_rew_mean"] for record in records if _has_return(record)]
    return Progress(step, _rate(clocks), returns[-1] if returns else None)


def _has_return(record: dict[str, Any]) -> bool:
    return isinstance(record.get("rollout/ep_rew_mean"), int | float)


def _rate(clocks: Sequence[dict[str, Any]]) -> float | None:
    try:
        steps = clocks[-1]["timesteps"] - clocks[0]["timesteps"]
        return float(steps / (clocks[-1]["seconds"] - clocks[0]["seconds"]))
    except (IndexError, KeyError, TypeError, ZeroDivisionError):
        return None


def _evaluated_return(path: Path) -> float | None:
    try:
        episodes = json.loads(path.read_bytes())["episodes"]
        returns = [float(episode["episode_return"]) for episode in episodes]
        return sum(returns) / len(returns)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None


def _last_records(path: Path) -> list[dict[str, Any]]:
    """Reads the last records of a file that may be growing."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - _TAIL_BYTES, 0))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    # The last is empty or not whole yet; so may be the first.
    found = []
    for line in lines[:-1][-_RECORDS:]:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found
