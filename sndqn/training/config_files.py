"""Where a configuration comes from.

Values come, later ones winning, from the defaults of `TrainConfig`, the shipped YAML of the
environment's suite (`configs/`), a file given by `--config`, and the flags. A shipped one that is
named after a paper is that paper's agent, with SN only if the paper has it; a suite's own `dqn` has
it on -2, as the defaults have.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sndqn.envs import find_env
from sndqn.errors import ConfigError
from sndqn.files.shipped import shipped_dir
from sndqn.runs.folder import TITLE
from sndqn.training.config import TrainConfig, check_keys, make_config

MAX_CONFIG_BYTES = 64 * 1024
MAX_DEPTH = 10


def shipped_configs() -> list[str]:
    """Lists the shipped configurations by name, such as "atari/dqn-nature"."""
    root = shipped_dir("configs")
    return sorted(
        path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml")
    )


def read_config(name: str) -> dict[str, Any]:
    """Reads a YAML file into settings, their values not yet validated.

    Args:
        name: A path, or the name of a shipped configuration: "atari/dqn-nature".
    """
    path = Path(name)
    shipped = shipped_configs()
    if name in shipped and not path.is_file():
        path = shipped_dir("configs") / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"--config: no file and no shipped configuration is called {name!r}.\n"
            f"Give a path, or one of: {', '.join(shipped)}"
        )
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: expected at most {MAX_CONFIG_BYTES} bytes of YAML, found more")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {_first_line(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: expected lines of `setting: value`, found a {type(values).__name__}"
        )
    check_keys(values, str(path))
    return values


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


class _StrictLoader(yaml.SafeLoader):
    """The safe loader without aliases, duplicate keys and depth: a file says each thing once."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not used here")
        if self.depth == MAX_DEPTH:  # beyond use, and each level takes longer to read
            raise yaml.YAMLError(f"settings nested more than {MAX_DEPTH} deep are not used here")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        words, count = Counter(map(repr, keys)).most_common(1)[0] if keys else ("", 0)
        if count > 1:
            raise yaml.YAMLError(f"the key {words} stands twice")
        return super().construct_mapping(node, deep)


def layered_config(flags: Mapping[str, Any], config: str | None = None) -> TrainConfig:
    """Builds the configuration of a run from its layers.

    Args:
        flags: Settings given one by one, the environment's name among them; they win.
        config: What `--config` was given: the name of a shipped configuration, in the place of the
            suite's own; or a file, on top of that.

    Raises:
        EnvironmentNameError: No environment has this name.
        ConfigError: As `make_config`.
    """
    suite, short_name = _place_of(make_config({"env": flags["env"]}))
    chosen = shipped_for(suite, short_name, config) if config is not None else None
    given = read_config(config) if config is not None and chosen is None else {}
    algo = str(flags.get("algo", given.get("algo", "dqn")))
    base = chosen or shipped_for(suite, short_name, algo)
    values = read_config(base) if base is not None else {}
    title = {} if config is None else {"title": _title(config)}
    resolved = make_config({**title, **values, **given, **flags})
    return resolved.model_copy(update={"title": None}) if resolved.title == algo else resolved


def _place_of(config: TrainConfig) -> tuple[str, str]:
    """Returns the suite of the environments, and the name of a single one as files have it."""
    suite, name = find_env(config.env_names[0])
    short_name = name.rpartition("/")[2].rsplit("-v", 1)[0].lower()
    return suite, short_name if len(config.env_names) == 1 else ""


def _title(config: str) -> str | None:
    """Names settings after what `--config` was given: the last part of a name, or a file's."""
    word = Path(config).name.removesuffix(".yaml").removesuffix(".yml")
    slug = re.sub(r"[^A-Za-z0-9._+-]+", "-", word)[:40]
    return slug if re.match(TITLE, slug) else None


def shipped_for(suite: str, short_name: str, name: str) -> str | None:
    """Finds the shipped configuration of a name for an environment; None where there is none.

    "c51" is "control/c51-cartpole" on CartPole, where that exists, or else "control/c51".
    """
    if Path(name).is_file():
        return None
    candidates = (f"{suite}/{name}-{short_name}", f"{suite}/{name}", name)
    return next((found for found in candidates if found in shipped_configs()), None)
