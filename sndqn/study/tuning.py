"""A tuning in its folder: what is searched, and what has been tried.

TUNING/tune.yaml        what is searched, written before anything else
TUNING/journal.log      Optuna's journal: each trial, its settings and its score
TUNING/trials/ARM-N/    a trial: a study (`sndqn.study.folder`) of its settings, a run a seed
TUNING/best-ARM.yaml    the best settings of an arm, ready for --config
TUNING/best/            a study of the arms' best settings on fresh seeds
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sndqn.errors import ConfigError, MissingExtraError, RunFolderError, shortened
from sndqn.files import write_text
from sndqn.files.plain_yaml import read_plain_yaml
from sndqn.study.design import Design, Point, make_design, resolve
from sndqn.study.folder import Study, make_study
from sndqn.study.space import Space, read_space
from sndqn.training.settings import Machine

_WHOLE_ARM = "tuned"
"""Name of the one arm of a tuning that has none."""

Count = Annotated[int, Field(gt=0, le=100_000)]


class Tuning(BaseModel):
    """A tuning's settings, as tune.yaml has them.

    Attributes:
        config: As `sndqn train --config`.
        settings: Of all trials.
        env: What is learnt.
        seed: Seeds of each trial, whose scores are averaged.
        fresh_seed: Seeds on which the best settings are trained again.
        arms: What is tuned, each by itself with as many trials.
        search: By setting, a range or values: see `space.read_space`.
        trials: Of each arm.
        random_trials: How many of them are drawn at random, the first ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str | None = None
    settings: Point = {}
    env: str
    seed: Any = (0,)
    fresh_seed: Any = "1000..1004"
    arms: dict[str, Point] = {}
    search: dict[str, Any] = Field(min_length=1)
    trials: Count = 20
    random_trials: Annotated[int, Field(ge=2)] = 10

    def space(self) -> Space:
        """Returns what is searched."""
        return read_space(self.search, "tune.yaml")

    def arm_names(self) -> list[str]:
        """Lists the arms."""
        return list(self.arms) or [_WHOLE_ARM]

    def design(self, points: Mapping[str, Mapping[str, Any]], seed: Any) -> Design:
        """Returns the study of the arms with these settings found, on these seeds."""
        content = {
            "config": self.config,
            "settings": self.settings,
            "env": [self.env],
            "seed": seed,
            "arms": {arm: {**self.arms.get(arm, {}), **point} for arm, point in points.items()},
        }
        return make_design(content, "tune.yaml")

    def to_yaml(self) -> str:
        """Writes what is not left at its default."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def make_tuning(values: object, source: str) -> Tuning:
    """Validates a tuning's settings.

    Raises:
        SndqnError: One of them is unknown or not what it must be; an environment that there is not.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected a tuning's keys, found {shortened(values)}")
    try:
        tuning = Tuning.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ": ".join(str(part) for part in fault["loc"])
        if fault["type"] == "missing":
            raise ConfigError(f"{source}: {place}: missing") from None
        if fault["type"] == "extra_forbidden":
            raise ConfigError(
                f"{source}: expected the keys {', '.join(Tuning.model_fields)}, found {place}"
            ) from None
        message = fault["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        raise ConfigError(
            f"{source}: {place}: expected {message}, found {shortened(fault['input'])}"
        ) from None
    space = tuning.space()
    for arm in tuning.arm_names():
        fixed = {**tuning.settings, **tuning.arms.get(arm, {})}
        twice = sorted(fixed.keys() & space.keys())
        if twice:
            raise ConfigError(f"{source}: {twice[0]} is searched: leave it out of {arm}'s settings")
    for seed in (tuning.seed, tuning.fresh_seed):
        resolve(tuning.design({arm: {} for arm in tuning.arm_names()}, seed))
    return tuning


class TuningFolder:
    """A tuning in its folder.

    Attributes:
        path: The folder.
        tuning: What is searched.
    """

    def __init__(self, path: Path, tuning: Tuning) -> None:
        self.path, self.tuning = path, tuning

    @classmethod
    def open(cls, path: Path) -> "TuningFolder":
        """Opens an existing tuning.

        Raises:
            SndqnError: There is none, or its tune.yaml is not one.
        """
        file = path / "tune.yaml"
        if not file.is_file():
            raise RunFolderError(
                f"expected the folder of a tuning, with a tune.yaml, found none at {path}: give "
                "one that `sndqn tune` made, or say what to search: --env, --search"
            )
        return cls(path, make_tuning(read_plain_yaml(file), str(file)))

    @classmethod
    def make(cls, path: Path, tuning: Tuning) -> "TuningFolder":
        """Makes a tuning of a folder, or opens it where it is the same, more trials perhaps.

        Raises:
            SndqnError: The folder holds something else, or another tuning.
        """
        if (path / "tune.yaml").is_file():
            known = cls.open(path).tuning
            if known.model_copy(update={"trials": tuning.trials}) != tuning:
                raise ConfigError(
                    f"{path} is another tuning: leave the settings out to go on with it, or make "
                    "the new one in a folder of its own"
                )
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunFolderError(f"{path} holds something else: give a new folder")
        try:
            (path / "trials").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"cannot make {path}: {error.strerror}") from None
        write_text(path / "tune.yaml", tuning.to_yaml())
        return cls(path, tuning)

    def optuna_study(self, arm: str) -> Any:
        """Opens an arm's part of the journal.

        Raises:
            MissingExtraError: Optuna is not installed.
        """
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise MissingExtraError(
                'optuna is not installed; type: pip install "sndqn[tune]"', name="optuna"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        n_random = self.tuning.random_trials
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self.path / "journal.log"))),
            study_name=arm,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(n_startup_trials=n_random, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=n_random),
            load_if_exists=True,
        )

    def trial_study(self, arm: str, number: int, point: Mapping[str, Any]) -> Study:
        """Makes the study of a trial, or opens it.

        Raises:
            SndqnError: Settings that cannot be trained.
        """
        path = self.path / "trials" / f"{arm}-{number:04d}"
        study, _ = make_study(path, self.tuning.design({arm: point}, self.tuning.seed))
        study.write()
        return study

    def best_study(self, points: Mapping[str, Mapping[str, Any]]) -> Study:
        """Makes the study of the best settings, or opens it.

        Raises:
            SndqnError: The folder holds other settings.
        """
        study, _ = make_study(
            self.path / "best", self.tuning.design(points, self.tuning.fresh_seed)
        )
        study.write()
        return study

    def write_best(self, arm: str, point: Mapping[str, Any]) -> Path:
        """Writes an arm's best settings, every one of them, ready for --config."""
        (run, *_) = resolve(self.tuning.design({arm: point}, [0]))
        left_out = {"env", "seed", "title", *Machine.model_fields}
        settings = {
            name: value
            for name, value in run.settings.items()
            if name not in left_out and value is not None
        }
        path = self.path / f"best-{arm}.yaml"
        write_text(path, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        return path
