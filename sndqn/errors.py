"""Every way sndqn refuses: one class each, one or two lines for the person who caused it.

Each message says what was expected, what was found and what to type instead. The command line
prints it and exits with status 2; a library user sees an ordinary exception.
"""

_LONGEST_LINE = 1000


class SndqnError(Exception):
    """Base of every error a user can cause and mend; its message stands alone."""


class ConfigError(SndqnError, ValueError):
    """A setting is unknown, out of range, of the wrong type, or contradicts another."""


class UntypedCodeError(ConfigError):
    """Code that a file names, and that runs only if the user types its name."""


class EnvironmentNameError(SndqnError, ValueError):
    """A name that no environment of any suite answers to."""


class UnsupportedSpaceError(SndqnError, ValueError):
    """An observation or action space that Q-learning or the chosen network cannot take."""


class ObservationError(SndqnError, ValueError):
    """An environment gave an observation that is not of its space."""


class RenderingError(SndqnError):
    """An environment that cannot be drawn."""


class SelectionError(SndqnError, ValueError):
    """A layer selection that names layers the network does not have."""


class MissingExtraError(SndqnError, ImportError):
    """An optional package is not installed; the message has the command that installs it."""


class RunFolderError(SndqnError):
    """A run folder is missing, incomplete, unwritable or in use."""


class RunInUseError(RunFolderError):
    """A run that another process makes."""


class SeveralRunsError(RunFolderError):
    """A folder holds several runs where one is meant."""


class TrainingError(SndqnError):
    """Training cannot go on: an environment failed, or a number is not finite any more."""


class AgentFileError(SndqnError, ValueError):
    """An agent file is damaged, of an unknown version, or contradicts its own description."""


class HubError(SndqnError):
    """The Hugging Face hub has no such agent, or does not take one."""


class HubUnreachableError(HubError):
    """The hub does not answer."""


class JsonError(SndqnError, ValueError):
    """JSON that says a thing twice, is larger or deeper than its kind, or is none."""


class ScoresError(SndqnError, ValueError):
    """Scores that no statistic can be made of, or arms that cannot be compared."""


class TraceError(SndqnError, ValueError):
    """A trace is damaged, was edited, or does not replay to what it records."""


def printable(text: str, lines: int = 2) -> str:
    """Returns the first lines of a text without control characters, each of bounded length."""
    return "\n".join(
        "".join(c if c.isprintable() else "?" for c in line[:_LONGEST_LINE])
        for line in text.split("\n")[:lines]
    )


def shortened(value: object) -> str:
    """Writes a value that a stranger may have chosen, in at most 60 characters."""
    try:
        words = repr(value)
    except (ValueError, RecursionError):  # Python writes no numbers of more than 4300 digits
        words = "something huge"
    return words if len(words) <= 60 else f"{words[:57]}..."
