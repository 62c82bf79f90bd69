"""Finds agents: in a run's folder, in a file by itself, among those that ship with sndqn.

On the Hugging Face hub, by hf://USER/NAME. Or in what Stable-Baselines3 and rl-zoo saved: a zip, or
a folder with one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sndqn.agents.hub import fetch
from sndqn.agents.hub_names import hub_name, is_hub_name
from sndqn.agents.shipped import is_shipped, shipped_agent
from sndqn.agents.told import Told
from sndqn.agents.zoo_folder import zoo_zip
from sndqn.errors import RunFolderError, SeveralRunsError
from sndqn.files.shipped import shipped_dir
from sndqn.runs.folder import RunFolder

if TYPE_CHECKING:
    from sndqn.agents.agents import Agent
    from sndqn.envs import EnvSettings


@dataclass(frozen=True)
class AgentPlace:
    """An agent's file, and the folders of its evaluations.

    Attributes:
        file: The agent's file, or the zip of Stable-Baselines3 that it is read from.
        folder: Holds its own evaluation and traces, once there are any.
        output: Holds its later evaluations, and takes new ones: the same folder, but for an agent
            that ships or is on the hub.
        label: A word for the agent, for files that are made of it.
        evaluation: Name of the later evaluation whose folder was given, if it was.
        told: What was said of a zip; None for an agent's file.
    """

    file: Path
    folder: RunFolder
    output: RunFolder
    label: str
    evaluation: str | None = None
    told: Told | None = None

    @property
    def kept(self) -> Path:
        """The agent's file; of a zip the one that its evaluation left."""
        return self.file if self.told is None else self.folder.agent

    def read(self, default: "EnvSettings | None" = None) -> bytes:
        """Returns the bytes of the agent's file; a zip is read as one.

        Args:
            default: The environment of a zip, if the user tells none.

        Raises:
            SndqnError: There is none, it is too large, or it is a zip that something must be told.
        """
        from sndqn.agents.agents import read_agent_bytes

        if self.told is None:
            return read_agent_bytes(self.file)
        from sndqn.agents.sb3_import import import_sb3

        return import_sb3(self.file, self.told, default)

    def load(self, sha256: str | None = None, default: "EnvSettings | None" = None) -> "Agent":
        """Builds the agent.

        Args:
            sha256: What the SHA-256 of its file must be; None takes any.
            default: The environment of a zip, if the user tells none.

        Raises:
            SndqnError: As `read` and `agent_from_bytes`.
        """
        from sndqn.agents.agents import agent_from_bytes

        return agent_from_bytes(self.read(default), str(self.file), sha256)


def find_agent(given: str, told: Told | None = None) -> AgentPlace:
    """Finds the agent that a command was given.

    Args:
        given: The folder of a run, of an evaluation, or one that an evaluation made; an agent file,
            or a zip of Stable-Baselines3, whose evaluation is in NAME-evaluation/ beside it; the
            folder of a training by rl-zoo; the name of a shipped agent, "CartPole/sn", or of one on
            the hub, "hf://USER/NAME@REVISION", which is fetched.
        told: What the user says of the agent; only a zip or rl-zoo's folder may need it.

    Raises:
        RunFolderError: There is none.
        AgentFileError: A shipped one was changed.
        ConfigError: Something was told of an agent that says it itself.
        HubError: The hub has none, or does not answer.
    """
    told = told or Told()
    if is_hub_name(given):
        told.refuse_for(given)
        name = hub_name(given)
        folder = RunFolder(fetch(name))
        return AgentPlace(folder.agent, folder, _beside(name.label), name.label)
    zip_file = _zip(given)
    if zip_file is not None:
        folder = RunFolder(zip_file.with_name(f"{zip_file.stem}-evaluation"))
        return AgentPlace(zip_file, folder, folder, zip_file.stem, told=told)
    told.refuse_for(given)
    path = Path(given)
    try:
        shipped = _shipped_name(given, path)
        if shipped is not None:
            folder = RunFolder(shipped_agent(shipped))
            label = shipped.replace("/", "-")
            return AgentPlace(folder.agent, folder, _beside(label), label)
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
    except SeveralRunsError:
        raise
    except RunFolderError as error:
        raise RunFolderError(
            f"{error},\nor an agent file, a zip of Stable-Baselines3, a folder of rl-zoo, a name "
            "of `sndqn agents`, or hf://USER/NAME"
        ) from None
    return AgentPlace(folder.agent, folder, folder, folder.path.resolve().name)


def _beside(label: str) -> RunFolder:
    """Returns the folder, where one is, for evaluations of an agent whose own stays as it is."""
    return RunFolder(Path(f"{label}-evaluation"))


def is_of_sb3(given: str) -> bool:
    """Says whether Stable-Baselines3 or rl-zoo saved what was given."""
    return _zip(given) is not None


def _zip(given: str) -> Path | None:
    """Returns the zip that was given, or that is in the given folder of rl-zoo, if one was."""
    path = Path(given)
    try:
        if path.is_file():
            with path.open("rb") as file:
                return path if path.suffix == ".zip" or file.read(4) == b"PK\3\4" else None
        if path.is_dir() and not RunFolder(path).agent.is_file():
            return zoo_zip(path)
    except OSError:  # what cannot be looked at is no zip; the message comes from who opens it
        pass
    return None


def _shipped_name(given: str, path: Path) -> str | None:
    """Returns the name of a shipped agent, typed as that or as the path of its folder or file."""
    if not path.exists():
        return given if is_shipped(given) else None
    inside = path.resolve()
    root = shipped_dir("agents").resolve()
    if not inside.is_relative_to(root):
        return None
    name = (inside.parent if inside.is_file() else inside).relative_to(root).as_posix()
    return name if is_shipped(name) else None
