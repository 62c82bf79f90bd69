"""What a tuning searches: a range or a list of values for each setting."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from sndqn.errors import ConfigError, shortened
from sndqn.study.design import check_setting
from sndqn.training.settings import SETTINGS

_NUMBER = r"[+-]?\d+\.?\d*(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
# From a tenfold range on, equal ratios are as likely, not equal differences.
_LOG_FROM = 10.0


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included.

    Attributes:
        low: The lowest.
        high: The highest.
        whole: Whether they are integers.
    """

    low: float
    high: float
    whole: bool

    @property
    def log(self) -> bool:
        """Whether equal ratios are equally likely: where high is tenfold low or more."""
        return self.low > 0 and self.high / self.low >= _LOG_FROM

    def suggest(self, trial: Any, name: str) -> Any:
        """Draws a number by an Optuna trial."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """Values in no order, as they are typed."""

    values: tuple[str, ...]

    def suggest(self, trial: Any, name: str) -> Any:
        """Draws a value by an Optuna trial."""
        return trial.suggest_categorical(name, self.values)


Space = dict[str, Range | Choice]


def read_space(search: Mapping[str, Any], source: str) -> Space:
    """Reads what is searched.

    Args:
        search: By setting: a range such as "1e-5..1e-2", or a list of values.
        source: Where it is from, for messages.

    Raises:
        ConfigError: A setting that there is not, or a range or list that is none.
    """
    space: Space = {}
    for name, given in search.items():
        place = f"{source}: search: {name}"
        check_setting(name, f"{source}: search")
        if name in ("env", "seed", "runs_dir"):
            raise ConfigError(f"{place}: expected a setting that is learnt by, found {name}")
        values = given if isinstance(given, list) else [given]
        found = _RANGE.fullmatch(str(values[0])) if len(values) == 1 else None
        if found is not None:
            space[name] = _range(float(found[1]), float(found[2]), name, place)
        elif len({str(value) for value in values}) < max(len(values), 2):
            raise ConfigError(
                f"{place}: expected a range, such as 1e-5..1e-2, or several different values, "
                f"found {shortened(given)}"
            )
        else:
            space[name] = Choice(tuple(str(value) for value in values))
    return space


def _range(low: float, high: float, name: str, place: str) -> Range:
    annotation = SETTINGS[name].annotation
    takes = {annotation, *get_args(annotation)}
    if not takes & {int, float}:
        raise ConfigError(f"{place}: expected values, as this is no number: list several")
    whole = float not in takes
    if whole and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{place}: expected a range of whole numbers")
    if not low < high:
        raise ConfigError(f"{place}: expected a range from low to high, found {low:g}..{high:g}")
    return Range(low, high, whole)
