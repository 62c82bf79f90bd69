"""`sndqn agents`: the agents that ship with sndqn."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sndqn.agents.shipped import is_shipped, shipped_agent, shipped_agents
from sndqn.console import say
from sndqn.errors import RunFolderError
from sndqn.files.shipped import shipped_dir
from sndqn.runs.folder import RunFolder


def list_agents(console: Console) -> None:
    """Shows a table of the shipped agents."""
    agents = shipped_agents()
    console.print(_table(agents))
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


def add(given: str, name: str, evaluation: str | None, console: Console) -> None:
    """Puts a finished run among the shipped agents.

    Args:
        given: The run's folder.
        name: What the agent is called within its environment.
        evaluation: Name of the evaluation to ship with it; None for the run's own.
        console: Where to say what was done.
    """
    # With torch, which the list does without.
    from sndqn.agents.evaluations import find_evaluation
    from sndqn.training.shipping import add_agent

    run = RunFolder.open(given)
    evaluated = run if evaluation is None else find_evaluation(run, evaluation)
    whole_name = add_agent(run, name, evaluated)
    say(
        console,
        f"with {'its own evaluation' if evaluation is None else f'evaluation {evaluation}'}",
    )
    say(console, f"{shipped_dir('agents') / whole_name}: added to the index")
    say(console, f"Next: sndqn agents {whole_name}", style="bold")


def _table(agents: Mapping[str, Mapping[str, Any]]) -> Table:
    """Lays out the shipped agents, by what their index says of each."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("name", overflow="fold")
    table.add_column("algorithm")
    table.add_column("SN on")
    for name in ("steps", "score", "kB"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, entry in agents.items():
        table.add_row(
            name,
            entry.get("title", entry["algo"]),
            entry["sn_layers"],
            f"{entry['timesteps']:,}",
            f"{entry['mean']:.1f} ± {entry['std']:.1f}",
            f"{entry['bytes'] / 1000:.0f}",
        )
    return table
