"""Reading an agent's evaluation, which may be a stranger's, from its folder."""

from sndqn.errors import RunFolderError, SndqnError, TraceError
from sndqn.evaluation import EvaluationRecord, Trace, read_trace
from sndqn.runs.folder import RunFolder
from sndqn.zoo.fields import strict_json

MAX_BYTES = 16 * 2**20


def read_evaluation(folder: RunFolder) -> EvaluationRecord | None:
    """Reads the evaluation in a folder, trusting nothing; None where there is none.

    Raises:
        SndqnError: It is damaged, or contradicts itself.
    """
    path = folder.evaluation
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        return EvaluationRecord.from_dict(strict_json(content, MAX_BYTES))
    except OSError as error:
        raise RunFolderError(f"{path}: not readable ({error.strerror})") from None
    except SndqnError as error:
        raise TraceError(f"{path}: {error}") from None


def read_traces(folder: RunFolder, record: EvaluationRecord) -> list[Trace]:
    """Reads the traces that prove an evaluation.

    Raises:
        TraceError: One is missing, damaged, or of another episode.
    """
    traces = [read_trace(folder.trace(number)) for number in range(len(record.episodes))]
    for number, (trace, episode) in enumerate(zip(traces, record.episodes, strict=True)):
        if trace.sha256 != episode.trace_sha256:
            raise TraceError(
                f"{folder.trace(number)}: expected the trace that evaluation.json names, found "
                "another: evaluate the agent again"
            )
    return traces
