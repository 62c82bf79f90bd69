"""Trackers: services that show runs, to which a run's records go as well.

The run's own files are the record; a tracker gets the same numbers. One that fails, for want of a
network say, is left, and training goes on. A resumed run goes on in the tracker's own run, whose
name is in tracking.json, from the first record that it lacks.
"""

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from sndqn.errors import MissingExtraError, RunFolderError
from sndqn.files import read_json, write_json
from sndqn.runs.folder import RunFolder

PROJECT = "sndqn"
"""Project or experiment of the runs, where the tracker's environment variable names no other."""


class Tracker(Protocol):
    """A run as a tracker keeps it.

    Attributes:
        key: The tracker's name for the run, by which another process goes on with it.
    """

    key: str

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers by name, of a step."""

    def close(self) -> None:
        """Ends the run, and sends what is left."""


class Wandb:
    """Weights & Biases. WANDB_MODE=offline writes to the run's folder, for `wandb sync`."""

    def __init__(
        self, name: str, key: str | None, folder: RunFolder, settings: Mapping[str, Any]
    ) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            id=key,
            resume="allow",
            config=dict(settings),
            dir=str(folder.path),
            reinit="create_new",
        )
        self.key = self.run.id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers by name, of a step."""
        # wandb has one line of steps, where two records of a step would be one: an axis of our own.
        self.run.log({"timesteps": step, **values})

    def close(self) -> None:
        """Ends the run, and sends what is left."""
        self.run.finish()


class Trackio:
    """Trackio, in TRACKIO_DIR on this machine unless it is told of a Space."""

    def __init__(
        self, name: str, key: str | None, folder: RunFolder, settings: Mapping[str, Any]
    ) -> None:
        import trackio

        self.run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=key or name,
            config=dict(settings),
            resume="allow",
            embed=False,
        )
        self.key = name if key is None else key

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers by name, of a step."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """Ends the run, and sends what is left."""
        self.run.finish()


class MLflow:
    """MLflow, at MLFLOW_TRACKING_URI, by default in the current folder."""

    def __init__(
        self, name: str, key: str | None, folder: RunFolder, settings: Mapping[str, Any]
    ) -> None:
        import mlflow
        from mlflow.entities import Param

        self.client = mlflow.MlflowClient()
        if key is None:
            experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
            run = self.client.create_run(experiment.experiment_id, run_name=name)
            key = run.info.run_id
            params = [Param(name, str(value)[:500]) for name, value in settings.items()]
            self.client.log_batch(key, params=params)
        self.key: str = key

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers by name, of a step."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self.client.log_batch(self.key, metrics=metrics)

    def close(self) -> None:
        """Ends the run."""
        self.client.set_terminated(self.key)


TRACKERS: dict[str, Callable[..., Tracker]] = {
    "wandb": Wandb,
    "trackio": Trackio,
    "mlflow": MLflow,
}


def check_trackers(names: Iterable[str]) -> None:
    """Refuses trackers that are not installed.

    Raises:
        MissingExtraError: One is not.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"track: {name} is not installed; type: pip install {name}", name=name
            )


class Tracking:
    """The trackers of a run.

    Args:
        names: Which, of `TRACKERS`.
        folder: The run's folder.
        settings: What it is trained with.
        sent: The last step whose records they have.
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        folder: RunFolder | None = None,
        settings: Mapping[str, Any] | None = None,
        sent: int = -1,
    ) -> None:
        self.sent = sent
        self.trackers: dict[str, Tracker] = {}
        if folder is None:
            return
        keys = _read_keys(folder)
        title = f"{folder.path.parent.name}/{folder.path.name}"
        for name in names:
            about = (title, keys.get(name), folder, settings or {})
            self._try(name, partial(self._open, name, *about))
        if self.trackers:
            keys |= {name: tracker.key for name, tracker in self.trackers.items()}
            write_json(folder.tracking, keys)

    def _open(self, name: str, *about: Any) -> None:
        self.trackers[name] = TRACKERS[name](*about)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Sends the finite numbers of a record, unless they were sent before an interruption."""
        if step <= self.sent:
            return
        numbers = {
            name: float(value)
            for name, value in values.items()
            if isinstance(value, int | float) and name != "timesteps"
        }
        for name, tracker in list(self.trackers.items()):
            self._try(name, partial(tracker.log, step, numbers))

    def close(self) -> None:
        """Ends the run everywhere."""
        for name, tracker in list(self.trackers.items()):
            self._try(name, tracker.close)
        self.trackers = {}

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # another program's, by way of a network: it can raise anything
            self.trackers.pop(name, None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            warnings.warn(f"{name} is left, training goes on: {reason}", stacklevel=2)


def _read_keys(folder: RunFolder) -> dict[str, str]:
    if not folder.tracking.is_file():
        return {}
    found = read_json(folder.tracking, 2**16)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found.values()):
        raise RunFolderError(f"{folder.tracking}: expected the trackers' names of the run")
    return found
