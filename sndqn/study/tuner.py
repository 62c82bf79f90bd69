"""Making a tuning's trials: several at a time, whoever has a trial's lock makes it.

Any number of processes may work on one tuning. A trial whose process was killed is taken up by the
next, and its runs resumed.
"""

import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from sndqn.console import say
from sndqn.errors import RunFolderError, RunInUseError, SndqnError
from sndqn.runs.folder import RunFolder
from sndqn.runs.lock import RunLock
from sndqn.study.design import StudyRun
from sndqn.study.failures import read_failure
from sndqn.study.folder import Study
from sndqn.study.pool import close_pipe, kill_session, start_run
from sndqn.study.run_files import read_evaluations
from sndqn.study.tuned import RANDOM, final_score
from sndqn.study.tuning import TuningFolder
from sndqn.training.signals import StopSignals

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_SAVE = 60
_MAX_DEATHS = 3


@dataclass
class Trial:
    """A trial that this process makes.

    Attributes:
        arm: What it tries settings of.
        trial: Optuna's.
        study: Its runs, a seed each.
        held: Its lock, and what else is to be let go at its end.
        process: Makes the run that is under way.
        run: That run.
        reported: The last step whose evaluation Optuna knows.
        deaths: How often a process of it ended without a word.
    """

    arm: str
    trial: Any
    study: Study
    held: ExitStack
    process: "subprocess.Popen[bytes] | None" = None
    run: StudyRun | None = None
    reported: int = -1
    deaths: int = 0


class Tuner:
    """Makes the trials that a tuning is missing.

    Args:
        folder: The tuning.
        jobs: Trials at a time.
        console: Where to say what happens.
        code: Options that name code, for the runs' processes.
    """

    def __init__(
        self, folder: TuningFolder, jobs: int, console: Console, code: Sequence[str] = ()
    ) -> None:
        self.folder, self.jobs, self.console, self.code = folder, jobs, console, code
        self.studies = {arm: folder.optuna_study(arm) for arm in folder.tuning.arm_names()}
        self.under_way: list[Trial] = []

    def work(self) -> None:
        """Makes trials until all are made, here or by other processes.

        Raises:
            TrainingStopped: The user asked to stop; the state of all runs is saved.
        """
        with StopSignals() as stop:
            try:
                while stop.requested is None and self._take_turn():
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
                stop.check()
            finally:
                for trial in self.under_way:
                    if trial.process is not None:
                        trial.process.terminate()  # all at once, then wait for each
                for trial in self.under_way:
                    _end(trial)

    def _take_turn(self) -> bool:
        """Looks after the trials under way and begins others; False when all are made."""
        for trial in list(self.under_way):
            if not self._look_after(trial):
                _end(trial)
                self.under_way.remove(trial)
        while len(self.under_way) < self.jobs:
            found = self._next()
            if found is None:
                break
            self.under_way.append(found)
        return bool(self.under_way) or any(
            not trial.state.is_finished()
            for study in self.studies.values()
            for trial in study.get_trials(deepcopy=False)
        )

    def _next(self) -> Trial | None:
        """Takes up a trial that its process has left, or begins one; None where there is none."""
        with ExitStack() as stack:
            try:
                stack.enter_context(RunLock(self.folder.path))
            except RunInUseError:
                return None  # another process is at it; the next turn comes soon
            for arm, study in self.studies.items():
                for frozen in study.get_trials(deepcopy=False):
                    if not frozen.state.is_finished():
                        found = self._claim(arm, _trial_of(study, frozen))
                        if found is not None:
                            return found
            counts = {
                arm: sum(t.state.name != "FAIL" for t in study.get_trials(deepcopy=False))
                for arm, study in self.studies.items()
            }
            arm = min(counts, key=lambda name: counts[name])
            if counts[arm] >= self.folder.tuning.trials:
                return None
            trial = self.studies[arm].ask()
            trial.set_user_attr(RANDOM, trial.number < self.folder.tuning.random_trials)
            return self._claim(arm, trial)

    def _claim(self, arm: str, trial: Any) -> Trial | None:
        """Takes a trial's lock; None where another process has it, or it cannot be made."""
        space = self.folder.tuning.space()
        points = {name: dimension.suggest(trial, name) for name, dimension in space.items()}
        held = ExitStack()
        try:
            study = self.folder.trial_study(arm, trial.number, points)
            held.enter_context(RunLock(study.path))
        except RunInUseError:
            return None
        except SndqnError as error:
            say(self.console, f"{arm} {trial.number}: {error}", style="red")
            self.studies[arm].tell(trial, state=_state("FAIL"))
            return None
        words = ", ".join(f"{name} {_written(value)}" for name, value in points.items())
        say(self.console, f"{arm} {trial.number}: {words}")
        return Trial(arm, trial, study, held)

    def _look_after(self, trial: Trial) -> bool:
        """Reports a trial's evaluations and starts its next run; False when it is over."""
        if trial.process is not None:
            if trial.process.poll() is None:
                return not self._prune(trial)
            failure = self._failure_of(trial)
            if failure:
                self._say(trial, f"failed: {failure}")
                self.studies[trial.arm].tell(trial.trial, state=_state("FAIL"))
                return False
        for run in trial.study.runs:
            if trial.study.status(run) != "done":
                self._start(trial, run)
                return True
        score = float(np.mean([final_score(trial.study, run) for run in trial.study.runs]))
        self.studies[trial.arm].tell(trial.trial, score)
        self._say(trial, f"{score:.6g}")
        return False

    def _start(self, trial: Trial, run: StudyRun) -> None:
        folder = RunFolder.at(trial.study.folder(run).path)
        threads = int(run.settings["threads"])
        trial.run = run
        trial.process = start_run(str(trial.study.path), run.name, folder, threads, self.code)

    def _failure_of(self, trial: Trial) -> str:
        """Says why the run whose process has ended cannot go on; nothing if it can."""
        assert trial.process is not None
        assert trial.run is not None
        close_pipe(trial.process)
        status, trial.process = trial.process.returncode, None
        folder = trial.study.folder(trial.run)
        failure = read_failure(folder)
        if failure is not None:
            return failure.message
        trial.deaths += status != 0
        if trial.deaths < _MAX_DEATHS:
            return ""
        return f"its process ended {_MAX_DEATHS} times, last with {status}: see {folder.path}"

    def _prune(self, trial: Trial) -> bool:
        """Gives up a trial whose first run lags behind the median of the others at its step."""
        if trial.run is not trial.study.runs[0] or trial.trial.user_attrs.get(RANDOM):
            return False
        with suppress(RunFolderError):
            curve = read_evaluations(trial.study.folder(trial.run).curve)
            if curve is not None and curve.timesteps[-1] > trial.reported:
                trial.reported = int(curve.timesteps[-1])
                trial.trial.report(float(curve.values[-1]), trial.reported)
                if trial.trial.should_prune():
                    self._say(trial, f"given up at step {trial.reported:,}")
                    self.studies[trial.arm].tell(trial.trial, state=_state("PRUNED"))
                    return True
        return False

    def _say(self, trial: Trial, text: str) -> None:
        say(self.console, f"{trial.arm} {trial.trial.number}: {text}")


def _end(trial: Trial) -> None:
    """Ends a trial's process, if there is one, its state saved, and lets its lock go."""
    if trial.process is not None:
        trial.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            trial.process.wait(_SECONDS_TO_SAVE)
        kill_session(trial.process)
        close_pipe(trial.process)
        trial.process = None
    trial.held.close()


def _trial_of(study: Any, frozen: Any) -> Any:
    """Returns the trial that another process began, to report to."""
    import optuna

    return optuna.trial.Trial(study, frozen._trial_id)


def _state(name: str) -> Any:
    import optuna

    return optuna.trial.TrialState[name]


def _written(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
