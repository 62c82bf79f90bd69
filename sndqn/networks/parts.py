"""What a table of torsos or heads knows of each: its class, and the arguments that are its own."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from sndqn.errors import ConfigError
from sndqn.files.fields import Field


@dataclass(frozen=True)
class Part:
    """A part of a network that a configuration or a file can name.

    Attributes:
        make: Its class, or a function that makes it.
        fields: The arguments that are its own, and what each may be in a file.
    """

    make: Callable[..., nn.Module]
    fields: Mapping[str, Field]

    @property
    def defaults(self) -> dict[str, Any]:
        """The values of its own arguments where none are given."""
        parameters = inspect.signature(self.make).parameters
        return {name: parameters[name].default for name in self.fields}


def check_name(what: str, name: str, table: Mapping[str, object]) -> None:
    """Refuses a name that no entry of a table has.

    Args:
        what: What is named: "torso".
        name: The name.
        table: The table.

    Raises:
        ConfigError: There is no such entry; the message lists those there are.
    """
    if name not in table:
        raise ConfigError(f"{what}: expected one of {', '.join(table)}, found {name!r}")
