"""What came of a tuning's trials: the best settings, and how tolerant each arm is of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sndqn.envs import find_env
from sndqn.errors import RunFolderError
from sndqn.study.bootstrap import Estimate, estimate
from sndqn.study.design import StudyRun
from sndqn.study.folder import Study
from sndqn.study.progress import read_progress
from sndqn.study.scores import references
from sndqn.study.statistics import mean
from sndqn.study.tolerance import Tolerance, tolerances
from sndqn.study.tuning import TuningFolder

RANDOM = "random"
"""Mark of the trials in the journal whose settings were drawn at random."""


@dataclass(frozen=True)
class Tuned:
    """What came of an arm's trials.

    Attributes:
        points: The best settings that were found.
        score: Their mean return over the tuning's seeds: the highest of many, so too high.
        tried: Trials with a score, and trials that were given up.
    """

    points: Mapping[str, Any]
    score: float
    tried: tuple[int, int]


def best_of(folder: TuningFolder) -> dict[str, Tuned]:
    """Returns the best settings of each arm.

    Raises:
        RunFolderError: No trial of an arm has a score.
    """
    found = {}
    for arm in folder.tuning.arm_names():
        trials = folder.optuna_study(arm).get_trials(deepcopy=False)
        scored = [trial for trial in trials if trial.state.name == "COMPLETE"]
        if not scored:
            raise RunFolderError(f"{folder.path}: no trial of {arm} has a score")
        best = max(scored, key=lambda trial: trial.value)
        n_given_up = sum(trial.state.name == "PRUNED" for trial in trials)
        found[arm] = Tuned(dict(best.params), best.value, (len(scored), n_given_up))
    return found


def tolerances_of(folder: TuningFolder) -> dict[str, Tolerance]:
    """Estimates each arm's tolerance, from the trials that were drawn at random.

    Raises:
        SndqnError: There are none, or nothing was learnt.
    """
    scores = {
        arm: [
            trial.value
            for trial in folder.optuna_study(arm).get_trials(deepcopy=False)
            if trial.state.name == "COMPLETE" and trial.user_attrs.get(RANDOM)
        ]
        for arm in folder.tuning.arm_names()
    }
    best = {arm: tuned.score for arm, tuned in best_of(folder).items()}
    reference = references().get(find_env(folder.tuning.env)[1])
    return tolerances(scores, best, lowest=0.0 if reference is None else reference.random)


def fresh_score(study: Study, arm: str) -> Estimate:
    """Estimates an arm's mean return over the fresh seeds."""
    scores = [final_score(study, run) for run in study.runs if run.arm == arm]
    return estimate(mean, {study.runs[0].env: scores})


def final_score(study: Study, run: StudyRun) -> float:
    """Returns the mean return of a run's final evaluation.

    Raises:
        RunFolderError: It has none.
    """
    progress = read_progress(study.folder(run))
    if progress.mean_return is None or not progress.evaluated:
        raise RunFolderError(f"{study.folder(run).path}: expected an evaluation, found none")
    return progress.mean_return
