"""Where the files are that ship with sndqn and are no code."""

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).parent.parent


def shipped_dir(kind: Literal["agents", "configs"]) -> Path:
    """Returns the folder of shipped agents or configurations.

    It is inside the package where sndqn was installed from a wheel, beside it in a checkout.
    """
    inside = _PACKAGE / "shipped" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind
