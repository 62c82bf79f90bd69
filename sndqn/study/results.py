"""The results of a study's runs, finished or not, as figures and statistics need them.

    results = read_results(["studies/layers"])
    [(run.arm, run.env, run.seed, run.score) for run in results.runs]

Runs come from a study, which names their arms, or from any folders of runs; their arms are then the
settings in which they differ, or what "arm" in their provenance.json says. A run that cannot be
read is listed with the reason.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from sndqn.agents.evaluations import read_evaluation
from sndqn.envs import find_env
from sndqn.errors import RunFolderError, SndqnError, printable
from sndqn.evaluation import EvaluationRecord
from sndqn.files import read_json
from sndqn.runs.folder import RunFolder
from sndqn.study.arms import arm_name, arm_order, differing
from sndqn.study.folder import Status, Study, is_study, status_of
from sndqn.study.run_files import Course, Series, read_course, read_evaluations, read_seconds
from sndqn.training.config import make_config
from sndqn.training.config_files import read_config

_TRAINING_RETURNS = "rollout/ep_rew_mean"
_VIDEOS = (".mp4", ".webm", ".gif")
_DEEPEST = 4
_MAX_JSON = 2**20


@dataclass(frozen=True)
class RunResult:
    """One run.

    Attributes:
        path: Its folder.
        env: The game, by its full name.
        arm: What it is compared as.
        seed: The training's seed.
        settings: Every setting, as `TrainConfig` takes them.
        status: "running" if a process of this machine holds it.
        course: What was measured during training.
        evaluations: Mean return of the evaluations on the way.
        evaluation: The one at its end.
        provenance: Command, versions, machine, times.
        seconds: How long was trained, so far.
        layers: The weight layers' names, by index as in --sn-layers; empty if not known.
        videos: Files.
    """

    path: Path
    env: str
    arm: str
    seed: int
    settings: Mapping[str, Any]
    status: Status
    course: Course
    evaluations: Series | None = None
    evaluation: EvaluationRecord | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    layers: Mapping[str, int] = field(default_factory=dict)
    videos: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name, without control characters."""
        return printable(self.path.name, 1)

    @property
    def training_returns(self) -> Series | None:
        """Mean return of the last 100 training games, exploration included."""
        return self.course.totals.get(_TRAINING_RETURNS)

    @property
    def score(self) -> float | None:
        """Mean return of the evaluation at its end; None before."""
        return None if self.evaluation is None else self.evaluation.mean


@dataclass(frozen=True)
class Results:
    """Runs that are looked at together.

    Attributes:
        title: What they are called.
        runs: Sorted by arm, game and seed.
        arms: The arms in order.
        differing: The settings in which runs of the same game differ.
        waiting: Number of the study's runs that have not begun.
        unreadable: Folder and reason of those that could not be read.
        repeated: Runs that another one repeats, by the same arm, game and seed; left out of `runs`.
    """

    title: str
    runs: tuple[RunResult, ...]
    arms: tuple[str, ...]
    differing: tuple[str, ...]
    waiting: int = 0
    unreadable: tuple[tuple[Path, str], ...] = ()
    repeated: tuple[Path, ...] = ()

    @property
    def envs(self) -> list[str]:
        """The games, sorted."""
        return sorted({run.env for run in self.runs})

    def of(self, env: str, arm: str) -> list[RunResult]:
        """Returns the runs of an arm on a game, by seed."""
        return [run for run in self.runs if (run.env, run.arm) == (env, arm)]


def read_run(folder: RunFolder, arm: str = "", status: Status | None = None) -> RunResult:
    """Reads a run, trusting nothing.

    Args:
        folder: Its folder.
        arm: What it is compared as; by default what its provenance says, if that says anything.
        status: As a study knows it; by default what its files say.

    Raises:
        SndqnError: It is damaged, or none.
    """
    try:
        config = make_config(read_config(str(folder.config)))
        provenance = _provenance(folder)
        evaluation = read_evaluation(folder)
        course = read_course(folder.metrics, folder.path / "diagnostics.jsonl")
        videos = sorted(path for path in folder.videos.glob("*") if path.suffix in _VIDEOS)
        return RunResult(
            path=folder.path,
            env=_full_name(config.env),
            arm=arm or _own_arm(provenance),
            seed=config.seed,
            settings=config.model_dump(mode="json"),
            status=status or _status(folder),
            course=course,
            evaluations=read_evaluations(folder.curve),
            evaluation=evaluation,
            provenance=provenance,
            seconds=read_seconds(folder.timing),
            layers=_layers(folder),
            videos=tuple(path for path in videos if path.is_file()),
        )
    except (OSError, UnicodeError) as error:
        raise RunFolderError(f"{folder.path}: not readable: {error}") from None


def read_results(paths: Sequence[str | Path], known: "Results | None" = None) -> Results:
    """Reads studies, runs, and folders that hold runs.

    Args:
        paths: Their folders.
        known: What was read before: runs that were done then are not read again.

    Raises:
        SndqnError: A path holds no run at all; or it is a study whose file is damaged.
    """
    runs: dict[Path, RunResult] = {}
    unreadable: dict[Path, str] = {}
    waiting = 0
    done = {run.path.resolve(): run for run in known.runs if run.status == "done"} if known else {}
    for given in paths:
        for path, arm, status in _found(Path(given)):
            place = path.resolve()
            if status is not None and not (path / "config.yaml").is_file():
                if status == "failed":
                    unreadable.setdefault(place, "failed before its training began")
                waiting += status != "failed"
                continue
            if place in done:
                own = arm or _own_arm(done[place].provenance)
                runs.setdefault(place, replace(done[place], arm=own))
                continue
            try:
                runs.setdefault(place, read_run(RunFolder(path), arm, status))
            except SndqnError as error:
                unreadable.setdefault(place, printable(str(error), 1))
    names = [printable(Path(given).absolute().name, 1) for given in paths]
    title = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    kept, repeated = _without_repetitions(list(runs.values()))
    return _arranged(title, kept, waiting, tuple(unreadable.items()), repeated)


def _found(path: Path) -> Iterator[tuple[Path, str, Status | None]]:
    """Yields folder, arm and status of the runs at a path; a run of no study has neither yet.

    Raises:
        RunFolderError: There is none.
    """
    if is_study(path):
        study = Study.open(path)
        for run in study.runs:
            folder, status = study.folder(run), study.status(run)
            several = folder.tasks.is_file()
            for each in _run_folders(folder.path, 1) if several else [folder.path]:
                yield each, run.arm, status
        return
    found = [(run, "", None) for run in _run_folders(path, _DEEPEST)]
    if not found:
        raise RunFolderError(
            f"{printable(str(path), 1)}: expected a study, a run, or a folder with runs, found no "
            "config.yaml there: give what `sndqn sweep` or `sndqn train` made"
        )
    yield from found


def _run_folders(path: Path, depth: int) -> Iterator[Path]:
    """Yields the folders of runs at and below a path, those of a run of several tasks too."""
    if (path / "config.yaml").is_file():
        yield path
        return
    if depth == 0 or not path.is_dir():
        return
    try:
        inside = sorted(
            item for item in path.iterdir() if item.is_dir() and not item.name.startswith(".")
        )
    except OSError as error:
        raise RunFolderError(f"{path}: not readable: {error.strerror}") from None
    for item in inside:
        if not item.is_symlink():
            yield from _run_folders(item, depth - 1)


def _arranged(
    title: str,
    runs: Sequence[RunResult],
    waiting: int,
    unreadable: tuple[tuple[Path, str], ...],
    repeated: tuple[Path, ...],
) -> Results:
    """Names the arms of runs that have none yet, and sorts."""
    names = differing([(run.env, run.settings) for run in runs])
    named = [replace(run, arm=run.arm or arm_name(run.settings, names)) for run in runs]
    order = {run.arm: arm_order(run.settings, names) for run in reversed(named)}
    arms = sorted(order, key=lambda arm: order[arm])
    place = {arm: index for index, arm in enumerate(arms)}
    named.sort(key=lambda run: (place[run.arm], run.env, run.seed))
    return Results(
        title=title,
        runs=tuple(named),
        arms=tuple(arms),
        differing=tuple(names),
        waiting=waiting,
        unreadable=unreadable,
        repeated=repeated,
    )


def _without_repetitions(
    runs: Sequence[RunResult],
) -> tuple[list[RunResult], tuple[Path, ...]]:
    """Keeps of runs with the same settings and seed the one that came furthest.

    The same seed gives the same numbers: two of them are no larger sample.
    """
    names = differing([(run.env, run.settings) for run in runs])
    best: dict[tuple[str, ...], RunResult] = {}
    repeated = []
    for run in runs:
        settings = json.dumps([run.settings.get(name) for name in names], sort_keys=True)
        key = (run.env, run.arm, str(run.seed), settings)
        other = best.setdefault(key, run)
        if other is not run:
            first, second = sorted((other, run), key=_progress, reverse=True)
            best[key] = first
            repeated.append(second.path)
    return list(best.values()), tuple(repeated)


def _progress(run: RunResult) -> tuple[bool, int]:
    return run.evaluation is not None, run.course.timesteps


def _provenance(folder: RunFolder) -> dict[str, Any]:
    return _mapping(folder.provenance)


def _status(folder: RunFolder) -> Status:
    """Returns how far a run is; a task of several is as far as the run that it is a part of."""
    above = RunFolder(folder.path.parent)
    return status_of(above if above.tasks.is_file() else folder)


def _own_arm(provenance: Mapping[str, Any]) -> str:
    """Returns the arm that a run names itself: one of another program, whose settings do not."""
    arm = provenance.get("arm")
    return printable(arm, 1)[:60] if isinstance(arm, str) else ""


def _layers(folder: RunFolder) -> dict[str, int]:
    """Returns the index of each weight layer by its name, as layers.json has them."""
    rows = _mapping(folder.layers).get("before", [])
    named = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    found = {str(row.get("name")): row.get("index") for row in named}
    return {name: index for name, index in found.items() if type(index) is int}


def _mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = read_json(path, _MAX_JSON)
    except SndqnError as error:
        raise RunFolderError(f"{path}: {error}") from None
    return found if isinstance(found, dict) else {}


@cache
def _full_name(env: str) -> str:
    """Returns the name that all spellings of an environment share, as far as it is known here."""
    try:
        return find_env(env)[1]
    except SndqnError:  # registered by code that nobody typed here
        return printable(env, 1)
