"""Finds agents: in a run's folder, in a file by itself, or among those that ship with sndqn."""

from dataclasses import dataclass
from pathlib import Path

from sndqn.agents.shipped import is_shipped, shipped_agent
from sndqn.errors import RunFolderError
from sndqn.files.shipped import shipped_dir
from sndqn.runs.folder import RunFolder


@dataclass(frozen=True)
class AgentPlace:
    """An agent's file, and the folders of its evaluations.

    Attributes:
        file: The agent's file.
        folder: Holds its own evaluation and traces, once there are any.
        output: Holds its later evaluations, and takes new ones: the same folder, but for a shipped
            agent.
        label: A word for the agent, for files that are made of it.
        evaluation: Name of the later evaluation whose folder was given, if it was.
    """

    file: Path
    folder: RunFolder
    output: RunFolder
    label: str
    evaluation: str | None = None


def find_agent(given: str) -> AgentPlace:
    """Finds the agent that a command was given.

    Args:
        given: The folder of a run, of an evaluation, or one that an evaluation made; an agent file,
            whose evaluation is in NAME-evaluation/ beside it; or the name of a shipped agent,
            "CartPole/sn".

    Raises:
        RunFolderError: There is none.
        AgentFileError: A shipped one was changed.
    """
    path = Path(given)
    try:
        shipped = _shipped_name(given, path)
        if shipped is not None:
            folder = RunFolder(shipped_agent(shipped))
            label = shipped.replace("/", "-")
            return AgentPlace(folder.agent, folder, RunFolder(Path(f"{label}-evaluation")), label)
        if path.is_file():
            folder = RunFolder(path.with_name(f"{path.stem}-evaluation"))
            return AgentPlace(path, folder, folder, path.stem)
        folder = RunFolder(path)
        if folder.evaluation.is_file() and path.absolute().parent.name == "evaluations":
            root = RunFolder(path.parent.parent)
            return AgentPlace(root.agent, root, root, root.path.resolve().name, path.name)
        if not folder.agent.is_file():
            folder = RunFolder.open(path)
    except OSError as error:  # a name that no file system takes
        raise RunFolderError(f"{given}: no agent to read ({error.strerror})") from None
    except RunFolderError as error:
        raise RunFolderError(f"{error},\nor an agent file, or a name of `sndqn agents`") from None
    return AgentPlace(folder.agent, folder, folder, folder.path.resolve().name)


def _shipped_name(given: str, path: Path) -> str | None:
    """Gives the name of a shipped agent, typed as that or as the path of its folder or file."""
    if not path.exists():
        return given if is_shipped(given) else None
    inside = path.resolve()
    root = shipped_dir("agents").resolve()
    if not inside.is_relative_to(root):
        return None
    name = (inside.parent if inside.is_file() else inside).relative_to(root).as_posix()
    return name if is_shipped(name) else None
