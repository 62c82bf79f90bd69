"""Making one run of a study in this process, and leaving word where it cannot be made."""

import traceback
from contextlib import suppress

from rich.console import Console

from sndqn.errors import RunFolderError, RunInUseError, SndqnError, shortened
from sndqn.runs.folder import RunFolder
from sndqn.study.design import StudyRun, result_settings, same_value
from sndqn.study.failures import forget_failure, note_failure
from sndqn.study.folder import Study
from sndqn.training.config import make_config
from sndqn.training.config_files import read_config
from sndqn.training.run import train_or_resume


def make_run(study: Study, run: StudyRun, console: Console) -> RunFolder:
    """Makes a run of a study, or brings it to its end, unless it is finished.

    What it fails of stands in the run's failed.json then.

    Raises:
        RunInUseError: Another process makes it.
        SndqnError: It cannot be made.
    """
    folder = study.folder(run)
    forget_failure(folder)
    try:
        check_settings(run, folder)
        return train_or_resume(make_config(run.settings), folder.path, console)
    except RunInUseError:
        raise
    except Exception as error:
        if isinstance(error, SndqnError):
            message = str(error)
        else:
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
        with suppress(SndqnError):  # where nothing can be written, whoever waits sees the status
            note_failure(folder, message)
        raise


def check_settings(run: StudyRun, folder: RunFolder) -> None:
    """Refuses to go on with a run that was begun with other settings, by another version say.

    Raises:
        RunFolderError: It was.
    """
    file = folder.tasks if folder.tasks.is_file() else folder.config
    if not file.is_file():
        return
    begun = result_settings(make_config(read_config(str(file))).model_dump(mode="json"))
    meant = result_settings(run.settings)
    for name in {**begun, **meant}:
        if not same_value(begun.get(name), meant.get(name)):
            raise RunFolderError(
                f"{folder.path} was begun with {name} {shortened(begun.get(name))}, and the study "
                f"now means {shortened(meant.get(name))}: use the version of sndqn it was begun "
                "with, or move the folder away"
            )
