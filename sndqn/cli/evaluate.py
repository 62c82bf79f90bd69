"""`sndqn evaluate`: plays the games of a protocol and keeps them as traces."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sndqn.cli.options import AGENT, Parser, add_pin, add_told, parse, told
from sndqn.cli.results import (
    Output,
    add_output,
    agent_result,
    evaluation_line,
    evaluation_result,
)
from sndqn.console import say
from sndqn.errors import ConfigError, RunFolderError
from sndqn.files import write_bytes
from sndqn.runs.folder import RunFolder

if TYPE_CHECKING:
    from sndqn.agents import Agent
    from sndqn.evaluation import EvaluationRecord


def run(argv: Sequence[str]) -> None:
    """Evaluates an agent, and keeps the result beside its other evaluations.

    The first one of an agent file by itself is its own. Every other goes to evaluations/NAME/: what
    a training left is never written over.
    """
    parser = Parser("evaluate", "Evaluate an agent again.")
    parser.add_argument("agent", help=AGENT)
    parser.add_argument("--episodes", type=int, metavar="N", help="whole episodes (the run's)")
    parser.add_argument("--epsilon", type=float, metavar="P", help="random actions (the run's)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the episodes (the run's)")
    parser.add_argument("--max-steps", type=int, metavar="N", help="cut episodes (the run's)")
    parser.add_argument(
        "--end-hopeless-games",
        dest="end_hopeless",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="end an Atari game in which nothing but a counter changes for a minute (the run's)",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="its folder in evaluations/ (named after how it is made)"
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="where evaluations go (the run, or beside the file)"
    )
    add_output(parser)
    add_pin(parser)
    add_told(parser)
    arguments = parse(parser, argv)

    from dataclasses import replace

    from sndqn.agents import agent_from_bytes, find_agent
    from sndqn.agents.evaluations import (
        check_name,
        default_name,
        keep_evaluation,
        unfinished_file,
        write_evaluation,
    )
    from sndqn.envs import describe
    from sndqn.evaluation.protocol import STEPS_WITHOUT_LIMIT, limited
    from sndqn.evaluation.unfinished import forget
    from sndqn.training.evaluating import play, protocol_of

    place = find_agent(arguments.agent, told(arguments))
    content = place.read()
    agent = agent_from_bytes(content, str(place.file), arguments.sha256)
    settings = agent.description.settings
    for wrapper in arguments.wrappers or ():
        if wrapper not in getattr(settings, "wrappers", []):
            raise ConfigError(f"--wrapper {wrapper}: the agent learnt without it: leave it out")
    options = ("episodes", "epsilon", "seed", "max_steps", "end_hopeless")
    given = {name: getattr(arguments, name) for name in options}
    given = {name: value for name, value in given.items() if value is not None}
    how = limited(replace(protocol_of(agent, place.folder), **given), settings)
    target = place.output if arguments.output is None else RunFolder(Path(arguments.output))
    if target.agent.absolute() != place.file.absolute():
        _open_folder(target, content)
    if arguments.name is not None:
        check_name(target, arguments.name, how, agent.sha256)
    output = Output.of(arguments)
    console = output.console
    say(console, describe(settings, how.max_steps or STEPS_WITHOUT_LIMIT))
    say(console, f"sha256 {agent.sha256}")
    alone = not target.config.exists() and not target.evaluation.exists()
    name = None if alone and arguments.name is None else arguments.name or default_name(how)
    unfinished = unfinished_file(target, name)
    try:
        record = play(agent, how, console, unfinished=unfinished)
    except KeyboardInterrupt:
        say(console, "To go on with the others, type the same command again")
        raise
    if name is None:
        write_evaluation(target, record)
        forget(unfinished)
        output.result(
            lambda: _result(agent, place.file, record, target), f"sndqn replay {target.path}"
        )
        return
    kept, is_new = keep_evaluation(target, record, name)
    forget(unfinished)
    where = target.evaluations / kept
    say(console, f"Kept: {where}" if is_new else f"The same to the bit as {where}, which stays")
    output.result(
        lambda: _result(agent, place.file, record, RunFolder(where)),
        f"sndqn replay {target.path} --evaluation {kept}",
    )


def _result(
    agent: "Agent", file: Path, record: "EvaluationRecord", folder: RunFolder
) -> dict[str, Any]:
    result = evaluation_result(record, str(folder.evaluation))
    line = f"{folder.path}: {evaluation_line(result)}"
    return {**agent_result(agent, str(file)), "evaluation": result, "line": line}


def _open_folder(target: RunFolder, content: bytes) -> None:
    """Makes a folder for an evaluation, with the agent in it, but not where another one is."""
    try:
        target.path.mkdir(parents=True, exist_ok=True)
        other = target.config.exists() or (
            target.agent.exists() and target.agent.read_bytes() != content
        )
    except OSError as error:
        raise RunFolderError(f"--output: cannot make {target.path}: {error.strerror}") from None
    if other:
        raise RunFolderError(
            f"{target.path}: expected a folder for this agent's evaluation, found another agent's: "
            "type --output FOLDER"
        )
    write_bytes(target.agent, content)
