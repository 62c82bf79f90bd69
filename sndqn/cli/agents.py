"""`sndqn agents`: the agents that ship with sndqn; `sndqn agents add` puts a run among them."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sndqn.agents.shipped import is_shipped, shipped_agent, shipped_agents
from sndqn.cli.options import Parser, add_evaluation, make_console, parse
from sndqn.cli.results import add_json, print_json
from sndqn.console import say
from sndqn.errors import RunFolderError
from sndqn.files.shipped import shipped_dir
from sndqn.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.table import Table

    from sndqn.agents.seeds import SeedScores


def run(argv: Sequence[str]) -> None:
    """Lists the agents that ship, shows the card of one, or adds one."""
    if argv and argv[0] == "add":
        add(argv[1:])
        return
    parser = Parser(
        "agents",
        "List the agents that ship with sndqn, or show the card of one.",
        usage="sndqn agents [NAME]\n       sndqn agents add RUN --name NAME\n"
        "       sndqn agents add STUDY --env GAME --arm ARM --name NAME",
    )
    parser.add_argument("name", nargs="?", help="whose card to show, such as CartPole/sn")
    add_json(parser)
    arguments = parser.parse_args(argv)
    name = arguments.name
    if arguments.json:
        if name is not None:
            parser.error(
                f"--json lists all agents: leave out the name, or type sndqn inspect {name} --json"
            )
        agents = shipped_agents()
        print_json({"agents": [{"name": each, **entry} for each, entry in agents.items()]})
    elif name is None:
        list_agents()
    else:
        show_agent(name)


def list_agents() -> None:
    """Shows a table of the shipped agents."""
    console, agents = make_console(), shipped_agents()
    console.print(_table(agents))
    if agents:
        say(console, f"Next: sndqn replay {next(iter(agents))}", style="bold")


def show_agent(name: str) -> None:
    """Shows the card of a shipped agent, whose files are first compared with the index."""
    if not is_shipped(name):
        known = ", ".join(shipped_agents()) or "none yet"
        raise RunFolderError(f"no agent is called {name!r}; there are: {known}")
    console = make_console()
    for line in (shipped_agent(name) / "README.md").read_text(encoding="utf-8").splitlines():
        say(console, line)


def add(argv: Sequence[str]) -> None:
    """Puts a finished run among the shipped agents."""
    parser = Parser(
        "agents add",
        "Put a finished run among the agents that ship, with card, clip and index; of a study's "
        "arm the run of median score, and its card says what all seeds scored.",
    )
    parser.add_argument("run", help="folder of a run or a study")
    parser.add_argument("--env", metavar="GAME", help="of a study: the game")
    parser.add_argument("--arm", help="of a study: the arm")
    parser.add_argument("--name", required=True, help="its name within its environment")
    add_evaluation(parser)
    arguments = parse(parser, argv)

    from sndqn.agents.evaluations import find_evaluation
    from sndqn.training.shipping import add_agent

    console, evaluation = make_console(), arguments.evaluation
    folder, seeds = _run_and_seeds(arguments)
    evaluated = folder if evaluation is None else find_evaluation(folder, evaluation)
    name = add_agent(folder, arguments.name, evaluated, seeds)
    if seeds is not None:
        say(console, f"{seeds.summary}: seed {seeds.median_seed} is {seeds.place}")
    which = "its own evaluation" if evaluation is None else f"evaluation {evaluation}"
    say(console, f"with {which}")
    say(console, f"{shipped_dir('agents') / name}: added to the index")
    say(console, f"Next: sndqn agents {name}", style="bold")


def _run_and_seeds(arguments: argparse.Namespace) -> tuple[RunFolder, "SeedScores | None"]:
    """Finds the run: itself, or the one of median score in a study's arm."""
    from sndqn.agents.seeds import SeedScores
    from sndqn.study.folder import is_study
    from sndqn.study.results import read_results

    path = Path(arguments.run)
    if not is_study(path):
        if arguments.env is not None or arguments.arm is not None:
            raise RunFolderError(
                f"--env and --arm: expected the folder of a study, found none at {path}"
            )
        return RunFolder.open(path), None
    results = read_results([path])
    if arguments.env not in results.envs or arguments.arm not in results.arms:
        raise RunFolderError(
            f"{path}: expected --env of {', '.join(results.envs)} and --arm of "
            f"{', '.join(results.arms)}, found {arguments.env} and {arguments.arm}"
        )
    runs = results.of(arguments.env, arguments.arm)
    scores = {run.seed: run.score for run in runs if run.score is not None}
    if not runs or len(scores) < len(runs) or any(run.status != "done" for run in runs):
        raise RunFolderError(
            f"{path}: expected that every seed of {arguments.arm} on {arguments.env} is finished, "
            f"found {len(scores)} of {len(runs)}: type sndqn sweep {path}"
        )
    seeds = SeedScores(results.title, arguments.arm, scores)
    return RunFolder(next(run.path for run in runs if run.seed == seeds.median_seed)), seeds


def _table(agents: Mapping[str, Mapping[str, Any]]) -> "Table":
    """Lays out the shipped agents, by what their index says of each."""
    from rich import box
    from rich.table import Table

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
