"""What a command says at its end: lines, one line (--quiet), or one JSON object (--json)."""

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sndqn.cli.options import Parser
from sndqn.console import say

if TYPE_CHECKING:
    from sndqn.agents import Agent
    from sndqn.evaluation import EvaluationRecord
    from sndqn.runs.folder import RunFolder


def add_json(parser: Parser) -> None:
    """Adds --json."""
    parser.add_argument(
        "--json",
        action="store_true",
        default=False,
        help="print one JSON object instead (docs/shell.md says what is in it)",
    )


def add_output(parser: Parser) -> None:
    """Adds --quiet and --json."""
    parser.add_argument(
        "--quiet", action="store_true", default=False, help="print the result alone, in one line"
    )
    add_json(parser)


class Output:
    """Where a command prints, as --quiet and --json have it.

    With --json what is said on the way goes to standard error, and the object alone to standard
    output.

    Args:
        quiet: Whether nothing is said on the way.
        as_json: Whether the result is a JSON object.

    Attributes:
        console: For what is said on the way.
    """

    def __init__(self, quiet: bool, as_json: bool) -> None:
        from rich.console import Console

        self.quiet, self.as_json = quiet, as_json
        self.console: Console = Console(quiet=quiet, stderr=as_json)

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Output":
        """Takes what was typed."""
        return cls(arguments.quiet, arguments.json)

    def result(self, data: Callable[[], dict[str, Any]], next_line: str) -> None:
        """Prints the result.

        Args:
            data: Gives it as JSON data, with a "line" for --quiet, which is not printed by --json.
            next_line: What to type next, for people.
        """
        if self.quiet or self.as_json:
            found = data()
            line = found.pop("line")
            print_json(found) if self.as_json else print(line)
        else:
            say(self.console, f"Next: {next_line}", style="bold")


def print_json(data: dict[str, Any]) -> None:
    """Prints one JSON object; a number that is not finite is null."""
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def run_result(run: "RunFolder") -> dict[str, Any]:
    """Describes a finished run; of several tasks each one, under "tasks"."""
    from sndqn.agents import load_agent
    from sndqn.agents.evaluations import read_evaluation
    from sndqn.training.more import parts_of

    parts = []
    for part in parts_of(run):
        agent, record = load_agent(part.agent), read_evaluation(part)
        assert record is not None
        parts.append(
            {
                **agent_result(agent, str(part.agent)),
                "evaluation": evaluation_result(record, str(part.evaluation)),
            }
        )
    lines = [
        ("" if len(parts) == 1 else f"{part['env']}: ") + evaluation_line(part["evaluation"])
        for part in parts
    ]
    rest = parts[0] if len(parts) == 1 else {"tasks": parts}
    return {"run": str(run.path), **rest, "line": f"{run.path}: {'; '.join(lines)}"}


def agent_result(agent: "Agent", file: str) -> dict[str, Any]:
    """Describes an agent."""
    about = agent.description
    return {
        "env": about.settings.name,
        "algo": about.algo,
        "title": about.name,
        "sn_layers": about.network.spectral.layers,
        "seed": about.seed,
        "timesteps": about.timesteps,
        "agent": {"file": file, "sha256": agent.sha256},
    }


def evaluation_result(record: "EvaluationRecord", file: str) -> dict[str, Any]:
    """Describes an evaluation."""
    return {
        "file": file,
        "mean_return": record.mean,
        "std_return": record.std,
        "episodes": len(record.episodes),
        "returns": record.returns,
        "lengths": record.lengths,
        "ended_by": record.ended_by,
        "epsilon": record.protocol.epsilon,
        "seed": record.protocol.seed,
        "agent_sha256": record.agent_sha256,
    }


def evaluation_line(result: dict[str, Any]) -> str:
    """Says an evaluation's result."""
    return (
        f"mean return {result['mean_return']:.1f} ± {result['std_return']:.1f} over "
        f"{result['episodes']} episodes"
    )
