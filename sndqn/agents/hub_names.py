"""How an agent of the Hugging Face hub is named: hf://USER/NAME[@REVISION]."""

import re
from dataclasses import dataclass

from sndqn.errors import HubError, shortened

PREFIX = "hf://"
_REPO = r"[A-Za-z0-9_][\w.-]{0,94}[A-Za-z0-9_]|[A-Za-z0-9_]"
_NAME = re.compile(rf"((?:{_REPO})/(?:{_REPO}))(?:@(\w[\w./-]{{0,127}}))?", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """The name of an agent on the hub.

    Attributes:
        repo: "USER/NAME".
        revision: A branch, a tag or a commit.
    """

    repo: str
    revision: str = "main"

    def __str__(self) -> str:
        """Returns what one types: hf://USER/NAME@REVISION, without the revision if it is main."""
        return f"{PREFIX}{self.repo}" + ("" if self.revision == "main" else f"@{self.revision}")

    @property
    def label(self) -> str:
        """A word for files and folders that are made of it."""
        return self.repo.replace("/", "-")


def is_hub_name(given: str) -> bool:
    """Says whether an agent of the hub is meant."""
    return given.startswith(PREFIX)


def hub_name(given: str) -> HubName:
    """Reads USER/NAME[@REVISION], with or without hf:// in front.

    Raises:
        HubError: It is none.
    """
    found = _NAME.fullmatch(given.removeprefix(PREFIX))
    words = found.groups(default="main") if found else ("", "")
    if not found or any(part in word for word in words for part in ("..", "--", "//", ".git/")):
        raise HubError(
            f"expected a name of the hub, such as {PREFIX}USER/NAME or {PREFIX}USER/NAME@REVISION, "
            f"found {shortened(given)}"
        )
    return HubName(*words)
