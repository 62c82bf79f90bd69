"""Trying out what a study is going to train, before it does: whether it can be made, how fast.

Runs that differ in seed, step sizes or lengths alone are of one kind and are tried out once.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from rich.console import Console

from sndqn.algorithms import MultiTask
from sndqn.errors import ConfigError, SndqnError
from sndqn.study.design import StudyRun
from sndqn.training.build import build
from sndqn.training.config import make_config
from sndqn.training.pace import PaceCallback
from sndqn.training.plan import plan
from sndqn.training.run import threads_restored
from sndqn.training.settings import SETTINGS, Evaluation, Exploration, Machine, Optimizer
from sndqn.training.task_state import TaskState

# They change neither what is built nor, by much, how fast it learns.
_SAME_KIND = {"title", "seed", "total_timesteps", "gamma", "target_update_interval", "buffer_size"}
_SAME_KIND |= {"learning_starts", *Evaluation.model_fields, *Exploration.model_fields}
_SAME_KIND |= {*(set(Optimizer.model_fields) - {"optimizer"}), *Machine.model_fields}
_SMALL_BUFFER = 10_000
_ENDLESS = 10**12


def kinds(runs: Sequence[StudyRun]) -> list[list[StudyRun]]:
    """Groups runs whose training is built alike."""
    found: dict[Any, list[StudyRun]] = {}
    for run in runs:
        key = str([run.settings[name] for name in SETTINGS if name not in _SAME_KIND])
        found.setdefault(key, []).append(run)
    return list(found.values())


@threads_restored()
def check(runs: Sequence[StudyRun], device: str | None = None) -> None:
    """Builds the environment, network and algorithm of each kind of run, and writes nothing.

    Args:
        runs: The runs.
        device: Where to; None where each is to be trained.

    Raises:
        SndqnError: One cannot be made.
    """
    for kind in kinds(runs):
        run = kind[0]
        changes = {} if device is None else {"device": device}
        try:
            _close(_built({**run.settings, **changes}))
        except SndqnError as error:
            raise ConfigError(f"{run.arm} on {run.env}: {error}") from None


@threads_restored()
def measure(run: StudyRun) -> float:
    """Trains for some seconds after the first updates and returns steps per second.

    On one thread or as many as the run has, with nothing else going on, actions chosen as at the
    end of training, updates compiled if the whole run would compile them.

    Raises:
        SndqnError: It cannot be trained.
    """
    warm_up = 4 * int(run.settings["batch_size"]) + 4 * int(run.settings["n_envs"])
    states = _built(
        {
            **run.settings,
            "exploration": "constant",
            "learning_starts": min(run.settings["learning_starts"], warm_up),
        }
    )
    with ExitStack() as stack:
        stack.callback(_close, states)
        clocks = [PaceCallback(lambda _: False) for _ in states]
        models: list[Any] = [state.model for state in states]
        for model in models:
            total = states[0].task.config.total_timesteps
            model.compile = model.will_compile(total)
        if len(models) > 1:
            MultiTask(models).learn(_ENDLESS, [[clock] for clock in clocks])
        else:
            models[0].learn(_ENDLESS, [clocks[0]], None)
    return sum(clock.steps for clock in clocks) / max(clock.seconds for clock in clocks)


def _built(settings: Mapping[str, Any]) -> list[TaskState]:
    buffer = max(min(settings["buffer_size"], _SMALL_BUFFER), settings["batch_size"])
    config = make_config({**settings, "buffer_size": buffer})
    return build(plan(config), Console(quiet=True))


def _close(states: Sequence[TaskState]) -> None:
    for state in states:
        state.journal.close()
