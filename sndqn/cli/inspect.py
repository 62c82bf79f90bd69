"""`sndqn inspect`: what an agent is, its score, and the norm of every layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sndqn.cli.options import (
    AGENT,
    Parser,
    add_evaluation,
    add_pin,
    add_told,
    make_console,
    parse,
    told,
)
from sndqn.cli.results import add_json, agent_result, evaluation_result, print_json
from sndqn.console import say

if TYPE_CHECKING:
    from sndqn.agents.told import Told


def run(argv: Sequence[str]) -> None:
    """Shows agents, one after another."""
    description = "Show an agent: what it learnt, its score, and the norm of every layer."
    parser = Parser("inspect", description)
    parser.add_argument("agent", nargs="+", help=f"{AGENT}; or several")
    add_evaluation(parser)
    add_json(parser)
    add_pin(parser)
    add_told(parser)
    arguments = parse(parser, argv)
    given = (arguments.evaluation, arguments.sha256, told(arguments))
    if arguments.json:
        print_json({"agents": [look(agent, *given) for agent in arguments.agent]})
        return
    for agent in arguments.agent:
        inspect(agent, *given)


def look(
    given: str, evaluation: str | None, sha256: str | None, said: "Told | None" = None
) -> dict[str, Any]:
    """Returns what `inspect` shows as JSON data; arguments as its."""
    from dataclasses import asdict

    from sndqn.agents import find_agent
    from sndqn.agents.evaluations import chosen_evaluation, names_of, read_evaluation
    from sndqn.diagnostics import layer_norms

    place = find_agent(given, said)
    agent = place.load(sha256)
    folder, _ = chosen_evaluation(place, evaluation)
    record = read_evaluation(folder)
    norms = layer_norms(agent.network, agent.network.observation_space, exact=True)
    return {
        **agent_result(agent, str(place.file)),
        "settings": agent.description.settings.to_dict(),
        "evaluation": record and evaluation_result(record, str(folder.evaluation)),
        "evaluations": [name for name in names_of(place.output) if name != folder.path.name],
        "layers": [asdict(row) for row in norms],
    }


def inspect(
    given: str, evaluation: str | None, sha256: str | None, said: "Told | None" = None
) -> None:
    """Shows an agent.

    Args:
        given: As for `sndqn.agents.find_agent`.
        evaluation: Name of the evaluation to show; None for its own.
        sha256: What the SHA-256 of the agent's file must be; None takes any.
        said: What was told of it, as for `sndqn.agents.find_agent`.
    """
    from sndqn.agents import find_agent
    from sndqn.agents.evaluations import chosen_evaluation, names_of, read_evaluation
    from sndqn.diagnostics import layer_norms
    from sndqn.diagnostics.tables import layer_table

    console = make_console()
    place = find_agent(given, said)
    agent = place.load(sha256)
    about = agent.description
    say(console, about.settings.describe())
    say(
        console,
        f"{about.name}, {about.timesteps:,} steps, seed {about.seed}; sha256 {agent.sha256}",
    )
    folder, which = chosen_evaluation(place, evaluation)
    record = read_evaluation(folder)
    if record is not None:
        whose = "" if record.agent_sha256 == agent.sha256 else ", of another agent than this one"
        say(
            console,
            f"mean return {record.mean:.1f} ± {record.std:.1f} over {len(record.episodes)} "
            f"episodes ({which}{whose})",
        )
    others = [name for name in names_of(place.output) if name != folder.path.name]
    if others:
        say(console, f"other evaluations: --evaluation {', '.join(others)}")
    norms = layer_norms(agent.network, agent.network.observation_space, exact=True)
    console.print(layer_table(agent.network, norms))
