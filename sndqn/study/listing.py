"""The runs of a study, or of any folder with runs in it, and how far each is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sndqn.errors import ConfigError, RunFolderError
from sndqn.runs.folder import RunFolder
from sndqn.study.design import check_setting, same_value
from sndqn.study.failures import read_failure
from sndqn.study.folder import Status, Study, is_study, status_of
from sndqn.study.progress import Progress, read_progress
from sndqn.training.config import make_config
from sndqn.training.config_files import read_config

_MORE = ("arm", "status", "name")


@dataclass(frozen=True)
class ListedRun:
    """A run and how far it is.

    Attributes:
        name: In a study the name of its folder; else the folder's path under the one listed.
        folder: Its folder.
        arm: What of its study's comparison it belongs to; "" for a run of no study.
        status: How far it is.
        settings: Every setting.
        progress: Steps, rate and return.
        failure: Why it cannot go on; "" where it can.
    """

    name: str
    folder: RunFolder
    arm: str
    status: Status
    settings: Mapping[str, Any]
    progress: Progress
    failure: str

    def has(self, wanted: Mapping[str, Any]) -> bool:
        """Returns whether it has these settings; arm, status and name are some."""
        found = {**self.settings, "arm": self.arm, "status": self.status, "name": self.name}
        return all(same_value(found[name], value) for name, value in wanted.items())

    def to_json(self) -> dict[str, Any]:
        """Returns everything as JSON data."""
        return {
            "name": self.name,
            "path": str(self.folder.path),
            "env": self.settings["env"],
            "arm": self.arm,
            "seed": self.settings["seed"],
            "status": self.status,
            "timesteps": self.progress.step,
            "total_timesteps": self.settings["total_timesteps"],
            "steps_per_second": self.progress.rate,
            "mean_return": self.progress.mean_return,
            "evaluated": self.progress.evaluated,
            "failure": self.failure,
            "settings": dict(self.settings),
        }


def list_runs(path: Path, wanted: Mapping[str, Any] | None = None) -> list[ListedRun]:
    """Lists the runs of a study, or those under a folder.

    Args:
        path: The folder.
        wanted: Settings that the runs must have; arm, status and name are some.

    Raises:
        SndqnError: There is none, or no setting has such a name.
    """
    for name in wanted or {}:
        check_setting(name, "--where", _MORE)
    found = _of_study(Study.open(path)) if is_study(path) else _under(path)
    return [run for run in found if run.has(wanted or {})]


def _of_study(study: Study) -> list[ListedRun]:
    return [_listed(run.name, study.folder(run), run.settings, run.arm) for run in study.runs]


def _under(path: Path) -> list[ListedRun]:
    if not path.is_dir():
        raise RunFolderError(f"expected a study or a folder with runs, found none at {path}")
    files = [file for name in ("config.yaml", "tasks.yaml") for file in path.rglob(name)]
    runs = {
        file.parent: file for file in files if not (file.parent.parent / "tasks.yaml").is_file()
    }
    found = []
    for folder, file in sorted(runs.items()):
        try:
            settings = make_config(read_config(str(file))).model_dump(mode="json")
        except ConfigError:
            continue  # another program's
        found.append(_listed(str(folder.relative_to(path)), RunFolder(folder), settings))
    if not found:
        raise RunFolderError(f"expected a study or a folder with runs, found no run in {path}")
    return found


def _listed(name: str, folder: RunFolder, settings: Mapping[str, Any], arm: str = "") -> ListedRun:
    status = status_of(folder)
    failure = read_failure(folder) if status == "failed" else None
    message = "" if failure is None else failure.message
    return ListedRun(name, folder, arm, status, settings, read_progress(folder), message)
