"""TrainConfig: one frozen model whose fields are the command line's flags and the YAML's keys."""

import difflib
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from sndqn.errors import ConfigError, shortened
from sndqn.training.settings import (
    OWNERS,
    Environment,
    Evaluation,
    Exploration,
    Learning,
    Machine,
    Network,
    Optimizer,
    Run,
    Section,
    SpectralNorm,
    words,
)

_ADAMS = ("adam", "adamw")


# Pydantic takes the fields of the last base first.
class TrainConfig(
    Evaluation,
    Exploration,
    Optimizer,
    Learning,
    SpectralNorm,
    Network,
    Environment,
    Machine,
    Run,
):
    """Everything a training run depends on."""

    @model_validator(mode="before")
    @classmethod
    def _split_modules(cls, values: Any) -> Any:
        """Reads env "module:Id-v0" as the id, and the module as one to import."""
        if not (isinstance(values, dict) and isinstance(values.get("env"), str)):
            return values
        split = [name.strip().rpartition(":") for name in values["env"].split(",")]
        modules = list(dict.fromkeys(module for module, colon, _ in split if colon))
        if not modules:
            return values
        known = words(values.get("imports") or ())
        rest = [module for module in modules if module not in (known or ())]  # type: ignore[operator]
        imports = [*known, *rest]  # type: ignore[misc]
        return {**values, "env": ",".join(name for _, _, name in split), "imports": imports}

    @model_validator(mode="after")
    def _agree_on_algorithm(self) -> "TrainConfig":
        for name, algorithms in OWNERS.items():
            if getattr(self, name) is not None and self.algo not in algorithms:
                raise ValueError(
                    f"{name}: belongs to {' and '.join(algorithms)}, found algo {self.algo}. "
                    f"Type --algo {algorithms[0]}, or leave it out"
                )
        if self.munchausen and self.algo == "c51":
            raise ValueError(
                "munchausen: expected dqn, qr-dqn or iqn, found algo c51, whose atoms it would "
                "move by another amount for each action. Type --algo iqn"
            )
        if self.double and self.munchausen:
            raise ValueError(
                "munchausen: its soft policy has no greedy action for double Q-learning to choose. "
                "Type --no-double"
            )
        if self.sn_scheduler != "none" and self.sn_mode != "track":
            raise ValueError(
                f"sn_scheduler {self.sn_scheduler}: stands in the place of normalisation and needs "
                f"layers that are only tracked, found sn_mode {self.sn_mode}. Type --sn-mode track"
            )
        if self.sn_mode == "init" and self.sn_layers != "none" and self.init_from is not None:
            raise ValueError(
                "sn_mode init: scales initial weights, found init_from, whose weights take their "
                "place. Type --sn-layers none, or --sn-mode normalize"
            )
        if self.sn_scheduler not in ("none", "div_out") and self.optimizer not in _ADAMS:
            raise ValueError(
                f"sn_scheduler {self.sn_scheduler}: is defined on Adam's step, found optimizer "
                f"{self.optimizer}. Type --optimizer adam"
            )
        return self

    @model_validator(mode="after")
    def _agree_on_optimizer(self) -> "TrainConfig":
        if self.optimizer_eps_layers and self.optimizer == "sgd":
            raise ValueError(
                "optimizer_eps_layers: expected an optimiser with an ε, found sgd. "
                "Type --optimizer adam"
            )
        if self.optimizer_eps_layers and len(self.env_names) > 1:
            raise ValueError(
                "optimizer_eps_layers: expected one environment, found several, which share an "
                "optimiser. Leave it out"
            )
        return self

    @model_validator(mode="after")
    def _agree_on_time(self) -> "TrainConfig":
        falls = self.exploration != "constant"
        if falls and self.exploration_warmup_timesteps > self.exploration_timesteps:
            raise ValueError(
                "exploration_warmup_timesteps: expected at most exploration_timesteps "
                f"({self.exploration_timesteps}), found {self.exploration_warmup_timesteps}"
            )
        if self.exploration == "logarithmic" and not self.exploration_final_eps > 0:
            raise ValueError(
                "exploration logarithmic: expected exploration_final_eps above 0, found 0. "
                "Type --exploration-final-eps 0.01"
            )
        late = [at for at in self.env_changes or {} if not 0 < at < self.total_timesteps]
        if late:
            raise ValueError(
                f"env_changes: expected steps between 0 and {self.total_timesteps}, found {late[0]}"
            )
        for at, changes in (self.env_changes or {}).items():
            for name in changes.keys() - Environment.model_fields.keys():
                raise ValueError(
                    f"env_changes {at}: expected settings of the environment, found {name!r}"
                )
        return self

    @model_validator(mode="after")
    def _agree(self) -> "TrainConfig":
        if self.learning_starts >= self.total_timesteps:
            raise ValueError(
                f"learning_starts: expected less than total_timesteps ({self.total_timesteps}), "
                f"found {self.learning_starts}: nothing would be learnt. "
                f"Type --learning-starts {self.total_timesteps // 10}"
            )
        if self.keep_best and not self.eval_every_timesteps:
            raise ValueError(
                "keep_best: expected evaluations to choose by, found eval_every_timesteps 0. "
                f"Type --eval-every-timesteps {max(self.total_timesteps // 20, 1)}"
            )
        if self.buffer_size < self.batch_size:
            raise ValueError(
                f"buffer_size: expected at least batch_size ({self.batch_size}), "
                f"found {self.buffer_size}"
            )
        if self.sn_bound == "initial" and self.sn_mode == "init":
            raise ValueError(
                "sn_mode init: scales initial weights to a bound, found the one they come with, "
                "initial. Type --sn-bound 1"
            )
        if self.sn_bound != "initial" and not self.sn_bound > 0:
            raise ValueError(
                f'sn_bound: expected a positive number or "initial", found {self.sn_bound}'
            )
        if self.train_freq % self.n_envs and self.n_envs * self.gradient_steps % self.train_freq:
            raise ValueError(
                f"n_envs: expected a divisor or a multiple of train_freq ({self.train_freq}), so "
                f"that updates per step stay the same, found {self.n_envs}"
            )
        return self

    @property
    def env_names(self) -> list[str]:
        """The names of the environments to learn, one or several."""
        return [name.strip() for name in self.env.split(",")]

    def section(self, *sections: type[Section]) -> dict[str, Any]:
        """Returns the settings of some sections by name."""
        return {name: getattr(self, name) for part in sections for name in part.model_fields}

    def to_yaml(self) -> str:
        """Writes every setting, for `--config` to read."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """Validates settings.

    Raises:
        ConfigError: One line a fault: the key, what it takes, what was found.
    """
    check_keys(values, "configuration")
    try:
        return TrainConfig.model_validate(dict(values))
    except ValidationError as error:
        faults: dict[Any, list[Any]] = {}
        for fault in error.errors():
            faults.setdefault(fault["loc"][:1], []).append(fault)
        raise ConfigError("\n".join(map(_sentence, list(faults.values())[:2]))) from None


def check_keys(values: Mapping[str, Any], source: str) -> None:
    """Refuses keys that are no settings, with the nearest that is one."""
    for key in values:
        if key not in TrainConfig.model_fields:
            near = difflib.get_close_matches(str(key), TrainConfig.model_fields, n=1)
            hint = f": did you mean {near[0]}?" if near else ". `sndqn train --help` lists them"
            raise ConfigError(f"{source}: no setting is called {str(key)!r}{hint}")


def _sentence(faults: list[Any]) -> str:
    """Returns what is wrong with a setting; one that takes several things has a fault for each."""
    fault = faults[0]
    if fault["type"] == "value_error" and not fault["loc"]:
        return str(fault["ctx"]["error"])
    if fault["type"] == "missing":
        return f"{fault['loc'][0]}: missing. Type --{fault['loc'][0]} NAME, such as --env Breakout"
    expected = " or ".join(dict.fromkeys(map(_expected, faults)))
    return f"{fault['loc'][0]}: expected {expected}, found {shortened(fault['input'])}"


def _expected(fault: Any) -> str:
    if fault["type"] == "string_pattern_mismatch":
        return "auto, cpu, cuda, cuda:N or mps"
    message: str = fault["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if fault["type"] in ("too_long", "too_short"):
        message = message.removeprefix("Value should have ").partition(" after validation")[0]
    message = message.replace("a valid dictionary", "{name: value}")
    message = message.replace("a valid integer, unable to parse string as an integer", "an integer")
    return message.replace("a valid number, unable to parse string as a number", "a number")
