"""A study's folder, and how far each of its runs is.

STUDY/study.yaml      what is compared (`sndqn.study.design`), written before anything else
STUDY/configs/        copies of the configuration files that it names
STUDY/runs/NAME/      a run's folder (`sndqn.runs.folder`), and beside the run's own files:
    output.txt        what its process printed
    failed.json       why it cannot go on, until it is tried again
"""

from pathlib import Path
from typing import Literal

from sndqn.errors import RunFolderError
from sndqn.files import write_text
from sndqn.runs.folder import RunFolder
from sndqn.runs.lock import is_locked
from sndqn.study.design import Design, StudyRun, read_design, resolve

Status = Literal["waiting", "running", "interrupted", "failed", "done"]


class Study:
    """A study in its folder.

    Attributes:
        path: The folder.
        design: What is compared.
        runs: Its runs, in the order in which they are to be made.
    """

    def __init__(self, path: Path, design: Design) -> None:
        self.path, self.design = path, design
        self.runs = resolve(design, self._find_config)

    @classmethod
    def open(cls, path: str | Path) -> "Study":
        """Opens an existing study.

        Raises:
            SndqnError: There is none, or its study.yaml is not one.
        """
        root = Path(path)
        if not is_study(root):
            raise RunFolderError(
                f"expected the folder of a study, with a study.yaml, found none at {root}: "
                "give one that `sndqn sweep` made"
            )
        return cls(root, read_design(root / "study.yaml"))

    def folder(self, run: StudyRun) -> RunFolder:
        """Returns a run's folder, which need not be there yet."""
        return RunFolder(self.path / "runs" / run.name)

    def status(self, run: StudyRun) -> Status:
        """Returns how far a run is."""
        return status_of(self.folder(run))

    def write(self) -> None:
        """Writes study.yaml."""
        write_text(self.path / "study.yaml", self.design.to_yaml())

    def _find_config(self, name: str) -> str:
        """Returns the study's own copy of a configuration file, or what the name means."""
        own = self.path / "configs" / f"{Path(name).stem}.yaml"
        return str(own) if own.is_file() else name


def is_study(path: Path) -> bool:
    """Returns whether a folder is a study's."""
    return (path / "study.yaml").is_file()


def status_of(folder: RunFolder) -> Status:
    """Returns how far a run is, of a study or not."""
    if not folder.path.is_dir():
        return "waiting"
    if "finished" in folder.read_provenance():
        return "done"
    if is_locked(folder.path):
        return "running"
    if (folder.path / "failed.json").is_file():
        return "failed"
    begun = folder.config.is_file() or folder.tasks.is_file()
    return "interrupted" if begun else "waiting"
