"""`sndqn export`: an agent as a file of its own, for sndqn or for other tools."""

from collections.abc import Sequence

from sndqn.cli.options import AGENT, Parser, add_pin, add_told, make_console, new_file, parse, told
from sndqn.console import say
from sndqn.files import write_bytes

_SUFFIXES = {"sndqn": ".safetensors", "onnx": ".onnx", "sb3": ".zip"}


def run(argv: Sequence[str]) -> None:
    """Writes an agent as a file of its own."""
    description = "Write an agent as a file of its own, for sndqn or for other tools."
    parser = Parser("export", description)
    parser.add_argument("agent", help=AGENT)
    parser.add_argument(
        "--format",
        choices=tuple(_SUFFIXES),
        default="sndqn",
        help="an agent file (default), an ONNX model, or a zip for Stable-Baselines3",
    )
    parser.add_argument("--output", metavar="FILE", help="a new file (the agent's name, here)")
    add_pin(parser)
    add_told(parser)
    arguments = parse(parser, argv)

    from sndqn.agents import agent_from_bytes, find_agent
    from sndqn.agents.export import to_onnx, to_sb3

    place = find_agent(arguments.agent, told(arguments))
    content = place.read()
    agent = agent_from_bytes(content, str(place.file), arguments.sha256)
    path = new_file(arguments.output or f"{place.label}{_SUFFIXES[arguments.format]}")
    if arguments.format != "sndqn":
        content = {"onnx": to_onnx, "sb3": to_sb3}[arguments.format](agent)
    write_bytes(path, content)
    say(
        make_console(),
        f"{path}: {len(content):,} bytes, of the agent with sha256 {agent.sha256}",
    )
