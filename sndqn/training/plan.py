"""What a configuration asks for: each environment to learn, its name resolved once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sndqn.agents.agents import spaces_of
from sndqn.envs import EnvSettings, MinAtarSettings, resolve_env
from sndqn.errors import ConfigError
from sndqn.training.config import TrainConfig, make_config
from sndqn.training.settings import Environment


@dataclass(frozen=True)
class Task:
    """One environment to learn.

    Attributes:
        config: Its configuration; of several, each has an equal share of the steps.
        phases: The environment's settings by the step from which they hold, 0 first.
        label: Its name among several; empty where there is one alone.
    """

    config: TrainConfig
    phases: Mapping[int, EnvSettings]
    label: str = ""

    @property
    def settings(self) -> EnvSettings:
        """The environment's settings at the beginning."""
        return self.phases[0]


def plan(config: TrainConfig) -> list[Task]:
    """Returns what a configuration asks for: one task, or several that share a torso.

    Raises:
        SndqnError: An environment that there is not, or settings that it does not have.
        ConfigError: Environments that cannot share a torso; changes that change the spaces.
    """
    names = config.env_names
    settings = [env_settings(config.model_copy(update={"env": name})) for name in names]
    filled = _filled_up(settings, config) if len(names) > 1 else {}
    common = {
        **config.model_dump(),
        **filled,
        "total_timesteps": config.total_timesteps // len(names),
    }
    tasks = []
    for index, (name, found) in enumerate(zip(names, settings, strict=True)):
        own = make_config({**common, "env": name, "seed": config.seed + index})
        label = found.name if len(names) > 1 else ""
        tasks.append(Task(own, _phases(own, replace(found, **filled)), label))
    return tasks


def env_settings(config: TrainConfig, **changes: Any) -> EnvSettings:
    """Resolves the name of a configuration's one environment, some of its settings changed."""
    settings = {**config.section(Environment), **changes}
    return resolve_env(config.env, modules=config.imports, wrappers=config.wrappers, **settings)


def _phases(config: TrainConfig, settings: EnvSettings) -> dict[int, EnvSettings]:
    """Returns the environment's settings by the step from which they hold, 0 first."""
    phases, changes = {0: settings}, dict[str, Any]()
    for at, values in sorted((config.env_changes or {}).items()):
        changes.update(values)
        phases[at] = env_settings(config, **changes)
    spaces = [spaces_of(phase) for phase in phases.values()] if len(phases) > 1 else []
    for at, changed in zip(phases, spaces, strict=False):
        if changed != spaces[0]:
            raise ConfigError(
                f"env_changes {at}: expected the observations and actions to stay, {spaces[0]}, "
                f"found {changed}: change other settings"
            )
    return phases


def _filled_up(settings: Sequence[EnvSettings], config: TrainConfig) -> dict[str, Any]:
    """Returns the settings by which several environments have one shape of observations.

    Raises:
        ConfigError: They have not; MinAtar's are filled up to have.
    """
    if len({found.name for found in settings}) < len(settings):
        raise ConfigError(f"env: expected different tasks, found {config.env}: name each once")
    shapes: list[Any] = [spaces_of(found)[0].shape for found in settings]
    filled: dict[str, Any] = {}
    if isinstance(settings[0], MinAtarSettings) and config.n_channels is None:
        filled["n_channels"] = max(shape[0] for shape in shapes)
        shapes = [(filled["n_channels"], *shape[1:]) for shape in shapes]
    if len({found.suite for found in settings}) > 1 or len(set(shapes)) > 1:
        listed = ", ".join(
            f"{found.name} {shape}" for found, shape in zip(settings, shapes, strict=True)
        )
        raise ConfigError(
            "env: several tasks share a torso, so they are of one suite and their observations of "
            f"one shape; found {listed}"
        )
    return filled
