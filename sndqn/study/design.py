"""What a study compares: study.yaml, or the flags it was typed as, and the runs that these mean.

config: young-tian                      # optional; a shipped configuration or a file, as --config
settings: {total_timesteps: 1000000}    # of all runs
env: [MinAtar/Breakout, MinAtar/Asterix]
seed: 0..9                              # or a number, or a list
arms:                                   # what is compared, by name
  none: {sn_layers: none}
  sn-2: {sn_layers: "-2"}
grid: {learning_rate: [1e-4, 1e-3]}     # each value with each arm
exclude: [{env: MinAtar/Asterix, learning_rate: 1e-3}]
"""

import difflib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
)

from sndqn.errors import ConfigError, shortened
from sndqn.files import sha256_of
from sndqn.files.plain_yaml import read_plain_yaml
from sndqn.training.config_files import layered_config
from sndqn.training.labels import setting_label, slug
from sndqn.training.settings import SETTINGS, Machine, words

MAX_RUNS = 100_000
# What a study sets itself: of a run's two names for its place, the study's is the one.
_OWN = {"env": "env", "seed": "seed", "runs_dir": None}
# They change nothing of a run's results.
_NO_RESULT = {"title", *Machine.model_fields}


def _seeds(value: object) -> object:
    """Reads 3, "0..9" and lists of these as numbers."""
    if isinstance(value, list | tuple):
        return [seed for part in value for seed in _as_list(_seeds(part))]
    found = re.fullmatch(r"(\d{1,10})\.\.(\d{1,10})", value) if isinstance(value, str) else None
    if found is None:
        return [value]
    first, last = int(found[1]), int(found[2])
    if not first <= last <= first + MAX_RUNS:
        raise ValueError(f"a range such as 0..9, of at most {MAX_RUNS} seeds")
    return list(range(first, last + 1))


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


Seed = Annotated[int, Field(ge=0, lt=2**31)]
Point = dict[str, Any]


class Design(BaseModel):
    """A study's settings, as study.yaml has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str | None = None
    settings: Point = {}
    env: Annotated[tuple[str, ...], BeforeValidator(words), Field(min_length=1)]
    seed: Annotated[tuple[Seed, ...], BeforeValidator(_seeds), Field(min_length=1)] = (0,)
    arms: dict[str, Point] = {}
    grid: dict[str, Annotated[list[Any], BeforeValidator(_as_list), Field(min_length=1)]] = {}
    exclude: Annotated[list[Point], BeforeValidator(_as_list)] = []

    @field_serializer("seed")
    def _short(self, seeds: tuple[int, ...]) -> Any:
        whole = len(seeds) > 1 and seeds == tuple(range(seeds[0], seeds[-1] + 1))
        return f"{seeds[0]}..{seeds[-1]}" if whole else list(seeds)

    def to_yaml(self) -> str:
        """Writes what is not left at its default, for `read_design` to read."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Attributes:
        name: Of its folder: GAME-ARM-seedN-HASH, with a hash of the settings that decide results.
        env: What it learns.
        arm: What of the study's comparison it belongs to.
        seed: Its seed.
        settings: Every setting, as a configuration has them.
    """

    name: str
    env: str
    arm: str
    seed: int
    settings: Mapping[str, Any]


def make_design(values: object, source: str) -> Design:
    """Validates a study's settings.

    Args:
        values: Them, by name.
        source: Where they are from, for messages: a file.

    Raises:
        ConfigError: One of them is unknown or not what it must be.
    """
    if not isinstance(values, dict):
        raise ConfigError(
            f"{source}: expected a study's keys, such as `env: [MinAtar/Breakout]`, found "
            f"{shortened(values)}"
        )
    for key in values:
        if key not in Design.model_fields:
            near = difflib.get_close_matches(str(key), Design.model_fields, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            hint = ". It is a setting: put it under `settings:`" if key in SETTINGS else hint
            raise ConfigError(
                f"{source}: expected the keys {', '.join(Design.model_fields)}, found "
                f"{shortened(key)}{hint}"
            )
    try:
        design = Design.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["type"] == "missing":
            raise ConfigError(
                f"{source}: {fault['loc'][0]}: missing. Say what to learn, such as MinAtar/Breakout"
            ) from None
        place = ": ".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        raise ConfigError(
            f"{source}: {place}: expected {message}, found {shortened(fault['input'])}"
        ) from None
    _check_names(design, source)
    return design


def read_design(path: Path) -> Design:
    """Reads a study.yaml: plain values, in which nothing can run.

    Raises:
        ConfigError: There is none, or it is not a study.
    """
    return make_design(read_plain_yaml(path), str(path))


def resolve(design: Design, find_config: Callable[[str], str] = str) -> list[StudyRun]:
    """Returns the runs of a study: all arms on all games with the first seed, then the next.

    A study that was left half way is as good as balanced therefore.

    Args:
        design: The study's settings.
        find_config: Gives what to read for the name of a configuration.

    Raises:
        SndqnError: An environment or a setting that there is not; two arms that are the same; an
            exclusion that fits no run; nothing to run.
    """
    shared: Point = {"threads": 1, **design.settings}
    cells: list[tuple[str, str, Point]] = []
    for env in design.env:
        for arm, point in _arms(design):
            given = {
                **shared,
                **design.arms.get(arm, {}),
                **point,
                "env": env,
                "seed": design.seed[0],
            }
            config = given.pop("config", design.config)
            try:
                resolved = layered_config(given, None if config is None else find_config(config))
            except ConfigError as error:
                raise ConfigError(f"{_place(env, arm, point)}: {error}") from None
            name = _arm_name(arm, point, resolved, config) or resolved.title or resolved.algo
            cells.append((env, name, resolved.model_dump(mode="json")))
    if len(cells) * len(design.seed) > MAX_RUNS:
        raise ConfigError(f"expected at most {MAX_RUNS} runs, found more: make several studies")
    runs = [
        StudyRun(_run_name(env, arm, settings), env, arm, seed, settings)
        for seed in design.seed
        for env, arm, settings in ((e, a, {**s, "seed": seed}) for e, a, s in cells)
    ]
    left = _without_excluded(runs, design.exclude)
    _check_different(left)
    return left


def same_value(found: object, wanted: object) -> bool:
    """Returns whether a setting is what was typed: -2 is "-2", 1e-3 is 0.001, null is none."""
    return _plain(found) == _plain(wanted)


def matches(run: StudyRun, wanted: Mapping[str, Any]) -> bool:
    """Returns whether a run has these settings; "arm" is one of them."""
    settings = {**run.settings, "arm": run.arm}
    return all(same_value(settings.get(name), value) for name, value in wanted.items())


def result_settings(settings: Mapping[str, Any]) -> Point:
    """Returns the settings that decide a run's results and are not left at their defaults.

    Those at their defaults say nothing, so that a setting which a later version adds changes no
    run's name.
    """
    return {
        name: value
        for name, value in settings.items()
        if name not in _NO_RESULT and not same_value(value, SETTINGS[name].default)
    }


def check_setting(name: str, source: str, more: Iterable[str] = ()) -> None:
    """Refuses a name that is no setting, with the nearest that is one."""
    known = [*SETTINGS, *more]
    if name not in known:
        raise ConfigError(f"{source}: no setting is called {name!r}{_nearest(name, known)}")


def setting_values(words: Sequence[str], option: str) -> dict[str, str]:
    """Reads words such as "sn_layers=-2" as settings by name.

    Raises:
        ConfigError: One has no "=".
    """
    point = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(
                f"{option}: expected SETTING=VALUE, such as learning_rate=1e-3, found {word!r}"
            )
        point[name.replace("-", "_")] = value
    return point


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {near[0]}?" if near else ". `sndqn train --help` lists them"


def _check_names(design: Design, source: str) -> None:
    """Refuses settings that there are not, or that a study has a key of its own for."""
    points = [("settings", design.settings), ("grid", design.grid)]
    points += [(f"arms: {arm}", point) for arm, point in design.arms.items()]
    for place, point in points:
        for name in point:
            if name in _OWN:
                own = _OWN[name]
                hint = f"give it as the study's own {own}" if own else "a study has its own folder"
                raise ConfigError(f"{source}: {place}: expected no {name}: {hint}")
            if name != "config" or place == "settings":
                check_setting(name, f"{source}: {place}", ["config"])
    for point in design.exclude:
        for name in point:
            check_setting(name, f"{source}: exclude", ["arm"])
    for arm in design.arms:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+,-]{0,59}", arm):
            raise ConfigError(
                f"{source}: arms: expected a name of letters, digits and . _ + , -, at most 60, "
                f"found {shortened(arm)}"
            )


def _arms(design: Design) -> Iterator[tuple[str, Point]]:
    """Yields what is compared: an arm's name, "" where there are none, and a point of the grid."""
    points = [
        dict(zip(design.grid, values, strict=True))
        for values in itertools.product(*design.grid.values())
    ]
    yield from itertools.product(design.arms or [""], points)


def _place(env: str, arm: str, point: Point) -> str:
    words = [env, *([f"arm {arm}"] if arm else []), *(f"{k} {v}" for k, v in point.items())]
    return ", ".join(words)


def _arm_name(arm: str, point: Point, resolved: Any, config: str | None) -> str:
    """Names what is compared after its arm and its point of the grid: "sn-2-lr0.0001"."""
    parts = [arm] if arm else []
    parts += [slug(Path(config).stem)] if config is not None and "config" in point else []
    parts += [setting_label(name, getattr(resolved, name)) for name in point if name != "config"]
    return "-".join(parts)


def _run_name(env: str, arm: str, settings: Point) -> str:
    content = json.dumps(result_settings(settings), sort_keys=True)
    game = slug(env.replace(",", "+"))[:40]
    short_arm = slug(arm)[:60]
    return f"{game}-{short_arm}-seed{settings['seed']}-{sha256_of(content.encode())[:8]}"


def _without_excluded(runs: list[StudyRun], exclude: list[Point]) -> list[StudyRun]:
    for point in exclude:
        if not any(matches(run, point) for run in runs):
            raise ConfigError(f"exclude: expected settings of some runs, found {shortened(point)}")
    left = [run for run in runs if not any(matches(run, point) for point in exclude)]
    if not left:
        raise ConfigError("exclude: nothing is left to run: exclude less")
    return left


def _check_different(runs: list[StudyRun]) -> None:
    """Refuses what would train the same thing twice."""
    known: dict[str, StudyRun] = {}
    for run in runs:
        twin = known.setdefault(json.dumps(result_settings(run.settings), sort_keys=True), run)
        if twin is not run:
            what = f"arms {twin.arm} and {run.arm}" if twin.arm != run.arm else "two runs"
            raise ConfigError(
                f"{what} have the same settings on {run.env}, seed {run.seed}: leave one out"
            )


def _plain(value: object) -> object:
    """Writes a value as it is typed, numbers as numbers."""
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(value).lower()
    if isinstance(value, dict):
        return json.dumps({str(key): value[key] for key in value}, sort_keys=True, default=str)
    if isinstance(value, str) and "," in value:
        value = value.split(",")
    if isinstance(value, list | tuple):
        return ",".join(str(_plain(part)) for part in value)
    try:
        return float(str(value))
    except ValueError:
        return str(value)
