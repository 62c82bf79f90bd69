"""`sndqn agents`: the agents that ship with sndqn."""

from rich.console import Console

from sndqn.errors import RunFolderError
from sndqn.report import agents_table
from sndqn.runs.folder import RunFolder
from sndqn.terminal import say
from sndqn.zoo.shipped import add_agent, agents_dir, is_shipped, shipped_agent, shipped_agents


def list_agents(console: Console) -> None:
    """Shows a table of the shipped agents."""
    agents = shipped_agents()
    console.print(agents_table(agents))
    if agents:
        say(console, f"Next: sndqn replay {next(iter(agents))}", style="bold")


def show_agent(name: str, console: Console) -> None:
    """Shows the card of a shipped agent, whose files are first compared with the index."""
    if not is_shipped(name):
        known = ", ".join(shipped_agents()) or "none yet"
        raise RunFolderError(f"no agent is called {name!r}; there are: {known}")
    text = (shipped_agent(name) / "README.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        say(console, line)


def add(given: str, name: str, console: Console) -> None:
    """Puts a finished run among the shipped agents.

    Args:
        given: The run's folder.
        name: What the agent is called within its environment.
        console: Where to say what was done.
    """
    whole_name = add_agent(RunFolder.open(given), name)
    say(console, f"{agents_dir() / whole_name}: added to the index")
    say(console, f"Next: sndqn agents {whole_name}", style="bold")
