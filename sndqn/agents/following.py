"""Follows an agent's file that something goes on writing, such as a training."""

from sndqn.agents.agents import Agent
from sndqn.agents.find import AgentPlace
from sndqn.errors import AgentFileError, SndqnError

_Mark = tuple[int, int, int]


class NewestAgent:
    """The agent of a file, read again when the file is another one.

    Args:
        place: Where it is.
        sha256: What the SHA-256 of its file must be, whenever it is read; None takes any.

    Attributes:
        agent: What was read last.
        problem: Why what is there now could not be taken; "" where it was.

    Raises:
        SndqnError: There is none, or it is damaged.
    """

    def __init__(self, place: AgentPlace, sha256: str | None = None) -> None:
        self.place, self._sha256 = place, sha256
        self._read = self._mark()
        self.agent: Agent = place.load(sha256)
        self.problem = ""

    @property
    def is_newer(self) -> bool:
        """Whether the file is another one than was read last."""
        mark = self._mark()
        return mark is not None and mark != self._read

    def newest(self) -> Agent:
        """Returns the agent that is in the file now; one that cannot be read changes nothing."""
        if self.is_newer:
            self._read, self.problem = self._mark(), ""
            try:
                self.agent = self._load()
            except SndqnError as error:
                self.problem = str(error)
        return self.agent

    def _load(self) -> Agent:
        new = self.place.load(self._sha256)
        if new.description.settings != self.agent.description.settings:
            raise AgentFileError(f"{self.place.file}: an agent of another environment by now")
        return new

    def _mark(self) -> _Mark | None:
        """Returns what tells one file of that name from the next; None where there is none."""
        try:
            found = self.place.file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
