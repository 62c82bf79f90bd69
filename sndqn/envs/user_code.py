"""Code that a person named: modules to import, wrappers to use.

A file may say which code it was made with; that code runs only if the user types its name, at
the shell or in Python.
"""

import importlib
import re
import sys
from typing import TYPE_CHECKING, Any

from sndqn.errors import ConfigError, UntypedCodeError

if TYPE_CHECKING:
    import gymnasium

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")

# The wrappers that were typed, by the name they were typed by.
_wrappers: "dict[str, type[gymnasium.Wrapper[Any, Any, Any, Any]]]" = {}


def import_typed(module: str, option: str = "--import") -> Any:
    """Imports a module whose name was typed; the current folder is looked in last.

    Args:
        module: Its name: "minigrid", "package.module".
        option: Where it was typed, for the message.

    Raises:
        ConfigError: It is no module's name, there is none, or importing it fails.
    """
    if _MODULE.fullmatch(module) is None or module.endswith(".py"):
        stem = module.removesuffix(".py").replace("/", ".").strip(".")
        hint = f": type {stem}" if _MODULE.fullmatch(stem) else ""
        raise ConfigError(f"{option}: expected a module such as minigrid, found {module!r}{hint}")
    if "" not in sys.path:
        sys.path.append("")  # last: no file here takes the place of a package
    try:
        return importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a script that was taken for a module
        if isinstance(error, ModuleNotFoundError) and error.name in _with_parents(module):
            raise ConfigError(
                f"{option}: found no module {module!r}, neither installed nor in this folder"
            ) from None
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(f"{option}: importing {module} failed: {reason}") from error


def use_wrapper(name: str) -> None:
    """Lets environments whose settings name a wrapper be wrapped in it.

    Args:
        name: "module:Class", a gymnasium.Wrapper that takes the environment alone.

    Raises:
        ConfigError: It is not.
    """
    import gymnasium

    module, _, attribute = name.partition(":")
    if not attribute.isidentifier():
        raise ConfigError(f"--wrapper: expected module:Class, found {name!r}")
    found = getattr(import_typed(module, "--wrapper"), attribute, None)
    if found is None:
        raise ConfigError(f"--wrapper: {module} has no {attribute!r}")
    if not (isinstance(found, type) and issubclass(found, gymnasium.Wrapper)):
        raise ConfigError(f"--wrapper: expected a class of gymnasium.Wrapper, found {name}")
    _wrappers[name] = found


def wrapped(
    env: "gymnasium.Env[Any, Any]", names: list[str], env_name: str
) -> "gymnasium.Env[Any, Any]":
    """Puts an environment into the wrappers of these names, the first one innermost.

    Raises:
        UntypedCodeError: A wrapper was not typed.
        ConfigError: A wrapper does not take the environment.
    """
    for name in names:
        if name not in _wrappers:
            raise UntypedCodeError(
                f"{env_name} is to be wrapped in {name}, which runs only if you type it: "
                f"--wrapper {name} (in Python sndqn.envs.use_wrapper)"
            )
        try:
            env = _wrappers[name](env)
        except Exception as error:
            # Foreign code: it can raise anything.
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ConfigError(
                f"--wrapper {name}: cannot be made with {env_name} alone: {reason}. A class of "
                "your own can give it what it needs"
            ) from error
    return env


def split_module(name: str) -> tuple[str | None, str]:
    """Splits Gymnasium's "module:Id-v0" into module and id; there may be no module."""
    module, colon, env_id = name.partition(":")
    return (module, env_id) if colon else (None, name)


def _with_parents(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
