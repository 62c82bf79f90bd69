"""A study's folder, and how far each of its runs is.

STUDY/study.yaml      what is compared (`sndqn.study.design`), written before anything else
STUDY/configs/        copies of the configuration files that it names
STUDY/runs/NAME/      a run's folder (`sndqn.runs.folder`), and beside the run's own files:
    output.txt        what its process printed
    failed.json       why it cannot go on, until it is tried again
"""

import difflib
from pathlib import Path
from typing import Literal

from sndqn.errors import ConfigError, RunFolderError
from sndqn.files import write_bytes, write_text
from sndqn.files.atomic import TEMPORARY
from sndqn.files.reading import read_bytes
from sndqn.runs.folder import RunFolder
from sndqn.runs.lock import is_locked
from sndqn.study.design import Design, StudyRun, read_design, resolve
from sndqn.study.failures import forget_failure
from sndqn.training.config_files import MAX_CONFIG_BYTES

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

    def find(self, name: str) -> StudyRun:
        """Returns the run of a name.

        Raises:
            RunFolderError: There is none.
        """
        for run in self.runs:
            if run.name == name:
                return run
        near = difflib.get_close_matches(name, [run.name for run in self.runs], n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        raise RunFolderError(f"{self.path} has no run called {name!r}{hint}")

    def forget_failures(self) -> None:
        """Lets the runs that failed be tried again."""
        for run in self.runs:
            if self.status(run) == "failed":
                forget_failure(self.folder(run))

    def write(self) -> None:
        """Writes study.yaml, and before it the configuration files that it names.

        Raises:
            RunFolderError: It cannot be written.
        """
        files = self._config_files()
        try:
            (self.path / "configs" if files else self.path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"cannot make {self.path}: {error.strerror}") from None
        for file in files:
            write_bytes(self._copy_of(file), read_bytes(file, MAX_CONFIG_BYTES))
        write_text(self.path / "study.yaml", self.design.to_yaml())

    def check_configs(self) -> None:
        """Refuses configuration files that are not, any more, what the study has copied.

        Raises:
            ConfigError: One was changed, or two have one name.
        """
        names: dict[str, Path] = {}
        for file in self._config_files():
            content = read_bytes(file, MAX_CONFIG_BYTES)
            if names.setdefault(file.name, file) != file:
                raise ConfigError(f"{file} and {names[file.name]}: expected two names: rename one")
            copy = self._copy_of(file)
            if copy.is_file() and copy.read_bytes() != content:
                raise ConfigError(
                    f"{file} is not what it was when the study was made ({copy}): put it back, or "
                    "make a new study"
                )

    def _config_files(self) -> list[Path]:
        """Lists the files among the configurations that are named."""
        points = [*self.design.arms.values(), {"config": self.design.config}]
        points += [{"config": name} for name in self.design.grid.get("config", [])]
        files = {Path(str(point["config"])) for point in points if point.get("config")}
        return sorted(file for file in files if file.is_file())

    def _copy_of(self, file: Path) -> Path:
        return self.path / "configs" / file.name

    def _find_config(self, name: str) -> str:
        """Returns the study's own copy of a configuration file, or what the name means."""
        own = self._copy_of(Path(name))
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
    return "interrupted" if folder.is_begun() else "waiting"


def make_study(path: Path, design: Design) -> tuple[Study, int]:
    """Makes a study of a folder, or finds that it is one; writes nothing yet.

    A study may grow: by seeds, games, arms, values of its grid. What it has stays.

    Args:
        path: The folder.
        design: What is to be compared.

    Returns:
        The study, and how many of its runs are new to it.

    Raises:
        SndqnError: The folder holds something else, or another study.
    """
    study = Study(path, design)
    study.check_configs()
    if not is_study(path):
        _check_free(path)
        return study, len(study.runs)
    known = Study.open(path)
    names = {run.name for run in study.runs}
    lost = [run for run in known.runs if run.name not in names]
    if lost:
        raise ConfigError(
            f"{path} is a study of other runs, {lost[0].name} among them: leave the settings out "
            "to go on with it, add to them, or make the new study in a folder of its own"
        )
    return study, len(names) - len(known.runs)


def begin_study(path: Path, design: Design, device: str | None = None) -> tuple[Study, int]:
    """Makes a study's folder, or lets one grow, once all that is new to it can be trained.

    Args:
        path: The folder.
        design: What is to be compared.
        device: Where to build each kind of run; None where it is to be trained.

    Returns:
        The study, and how many of its runs are new to it.

    Raises:
        SndqnError: It is another study, or one of its runs cannot be made; nothing is written.
    """
    study, n_new = make_study(path, design)
    if n_new:
        from sndqn.study.trial import check

        check(study.runs, device)
    study.write()
    return study, n_new


def _check_free(path: Path) -> None:
    """Refuses a folder that holds something, but for what a killed command left."""
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path} is no folder: name another one for the study")
    rest = [
        found.name
        for found in (path.iterdir() if path.is_dir() else ())
        if found.name != "configs" and not found.name.startswith(TEMPORARY)
    ]
    if rest:
        raise RunFolderError(
            f"{path} is no study and holds {rest[0]!r}: name a new folder for the study"
        )
