"""An agent's evaluations: its own, and those made later, each in evaluations/NAME/.

Each is a record, evaluation.json, and the traces that prove it, episodes.jsonl. A folder that an
earlier version made has a file for each trace instead: traces/episode-NNN.trace.json.

None is ever written over: a new one that is not the same to the bit gets a name of its own.
Reading trusts nothing: they may come from anywhere.
"""

import os
import re
import shutil
from itertools import count, islice
from pathlib import Path

from sndqn.agents.find import AgentPlace
from sndqn.errors import RunFolderError, SndqnError, TraceError
from sndqn.evaluation import (
    EvaluationProtocol,
    EvaluationRecord,
    Trace,
    read_episode,
    read_episodes,
    read_trace,
    write_episodes,
)
from sndqn.files import read_json, write_json
from sndqn.runs.folder import RunFolder

MAX_BYTES = 16 * 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def read_evaluation(folder: RunFolder) -> EvaluationRecord | None:
    """Reads the evaluation in a folder, trusting nothing; None where there is none.

    Raises:
        SndqnError: It is damaged, or contradicts itself.
    """
    path = folder.evaluation
    try:
        return EvaluationRecord.from_dict(read_json(path, MAX_BYTES)) if path.is_file() else None
    except OSError as error:  # a name that no file system takes, or a folder that may not be seen
        raise RunFolderError(f"{path}: not readable ({error.strerror})") from None
    except SndqnError as error:
        raise TraceError(f"{path}: {error}") from None


def read_trace_of(folder: RunFolder, number: int) -> Trace:
    """Reads the trace of an evaluation's episode, counted from 0.

    Raises:
        TraceError: It is missing or damaged.
    """
    if folder.episodes.is_file():
        return read_episode(folder.episodes, number)
    return read_trace(folder.path / "traces" / f"episode-{number:03d}.trace.json")


def read_traces(folder: RunFolder, record: EvaluationRecord) -> list[Trace]:
    """Reads the traces that prove an evaluation.

    Raises:
        TraceError: One is missing, damaged, or of another episode.
    """
    if folder.episodes.is_file():
        traces = list(islice(read_episodes(folder.episodes), len(record.episodes) + 1))
    else:
        traces = [read_trace_of(folder, number) for number in range(len(record.episodes))]
    if [trace.sha256 for trace in traces] != [each.trace_sha256 for each in record.episodes]:
        raise TraceError(
            f"{folder.path}: expected the traces that evaluation.json names, found others: "
            "evaluate the agent again"
        )
    return traces


def write_evaluation(folder: RunFolder, record: EvaluationRecord) -> None:
    """Writes an evaluation and its traces into a folder, in the place of those there.

    Raises:
        RunFolderError: They cannot be written.
    """
    write_episodes(folder.episodes, record.traces)
    write_json(folder.evaluation, record.to_dict())


def unfinished_file(folder: RunFolder, name: str | None = None) -> Path:
    """Returns where an evaluation under way is kept: of the agent's own, or of a later one."""
    if name is None:
        return Path(folder.path, "evaluation.unfinished.jsonl")
    return Path(folder.evaluations, f".{name}.unfinished.jsonl")


def names_of(folder: RunFolder) -> list[str]:
    """Lists an agent's evaluations but its own: the later ones, and those of earlier phases."""
    found = [
        *folder.evaluations.glob("*/evaluation.json"),
        *folder.path.glob("phase-*/evaluation.json"),
    ]
    return sorted(path.parent.name for path in found if not path.parent.name.startswith("."))


def find_evaluation(folder: RunFolder, name: str) -> RunFolder:
    """Finds an evaluation by its name, as in `names_of`.

    Raises:
        RunFolderError: There is none of that name.
    """
    names = names_of(folder)
    if name not in names:
        others = ", ".join(names) or "none: type sndqn evaluate"
        raise RunFolderError(
            f"--evaluation: none of {folder.path} is called {name!r}. Besides its own there are: "
            f"{others}"
        )
    later = folder.evaluations / name
    return RunFolder(later if later.is_dir() else folder.path / name)


def chosen_evaluation(place: AgentPlace, name: str | None) -> tuple[RunFolder, str]:
    """Finds the evaluation that a command is to read.

    Args:
        place: The agent's place.
        name: What --evaluation was given; None for its own.

    Returns:
        Its folder, and what to call it.
    """
    name = name or place.evaluation
    if name is None:
        return place.folder, "its own evaluation"
    return find_evaluation(place.output, name), f"evaluation {name}"


def default_name(how: EvaluationProtocol) -> str:
    """Names an evaluation after how it is made: "100-episodes-eps0-seed1000"."""
    cut = "" if how.max_steps is None else f"-max{how.max_steps}"
    cut += "-hopeless" if how.end_hopeless else ""
    return f"{how.episodes}-episodes-eps{how.epsilon:g}-seed{how.seed}{cut}"


def check_name(folder: RunFolder, name: str, how: EvaluationProtocol, agent_sha256: str) -> None:
    """Refuses a typed name that is malformed, or another evaluation's.

    Raises:
        RunFolderError: What is wrong with it.
    """
    if _NAME.fullmatch(name) is None:
        raise RunFolderError(
            f"--name: expected letters, digits, '.', '_' and '-', found {name[:80]!r}"
        )
    place = RunFolder(folder.evaluations / name)
    if not place.path.exists():
        return
    record = read_evaluation(place)
    if record is None or (record.protocol, record.agent_sha256) != (how, agent_sha256):
        raise RunFolderError(
            f"--name: {place.path} is another evaluation, and none is written over: type another "
            "name"
        )


def keep_evaluation(folder: RunFolder, record: EvaluationRecord, name: str) -> tuple[str, bool]:
    """Keeps an evaluation beside those that an agent has.

    Args:
        folder: The agent's.
        record: The evaluation, with its traces.
        name: What to call it. Where another has that name, -2 and so on are put behind it.

    Returns:
        Its name, and whether it is new: one that is the same to the bit is there once.

    Raises:
        RunFolderError: It cannot be written.
    """
    for number in count(1):
        chosen = name if number == 1 else f"{name}-{number}"
        place = RunFolder(folder.evaluations / chosen)
        if not place.path.exists() and _write_new(place, record):
            return chosen, True
        if _is_of(place, record):
            return chosen, False
    raise AssertionError("numbers do not end")


def _is_of(place: RunFolder, record: EvaluationRecord) -> bool:
    try:
        found = read_evaluation(place)
    except SndqnError:  # damaged: another one, which is left alone
        return False
    return found is not None and found.to_dict() == record.to_dict()


def _write_new(place: RunFolder, record: EvaluationRecord) -> bool:
    """Writes an evaluation under a temporary name, then renames it; False if that name is taken."""
    temporary = RunFolder(place.path.with_name(f".{place.path.name}.{os.getpid()}"))
    try:
        temporary.path.mkdir(parents=True)
        write_evaluation(temporary, record)
        temporary.path.rename(place.path)
    except OSError as error:
        if place.path.exists():
            return False
        raise RunFolderError(f"cannot write {place.path}: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary.path, ignore_errors=True)
    return True
