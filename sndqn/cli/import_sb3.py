"""`sndqn import-sb3`: an agent file of the weights in a zip of Stable-Baselines3."""

from collections.abc import Sequence

from sndqn.cli.options import Parser, add_told, make_console, new_file, parse, told
from sndqn.console import say
from sndqn.files import write_bytes


def run(argv: Sequence[str]) -> None:
    """Makes an agent file of the weights in a zip."""
    parser = Parser(
        "import-sb3",
        "Take the weights, and nothing else, out of a zip that Stable-Baselines3's save() wrote, "
        "of its DQN, of sb3-contrib's QRDQN or of sndqn's algorithms and policies. No pickle in it "
        "is read; what neither it nor rl-zoo's files beside it say, you do.",
    )
    parser.add_argument("zip", help="zip that save() wrote, or folder of rl-zoo")
    parser.add_argument("--output", metavar="FILE", required=True, help="a new agent file")
    add_told(parser)
    arguments = parse(parser, argv)

    from sndqn.agents import agent_from_bytes, find_agent
    from sndqn.diagnostics.tables import spectral_sentence
    from sndqn.errors import AgentFileError

    place = find_agent(arguments.zip, told(arguments))
    if place.told is None:
        raise AgentFileError(
            f"{arguments.zip}: expected a zip of Stable-Baselines3 or a folder of rl-zoo, found an "
            "agent of sndqn: type sndqn export"
        )
    path = new_file(arguments.output)
    content = place.read()
    agent = agent_from_bytes(content, arguments.zip)
    write_bytes(path, content)
    console, network = make_console(), agent.description.network
    say(console, agent.description.settings.describe())
    say(console, f"Hidden layers: {network.activation}")
    say(console, spectral_sentence(agent.network, network.spectral))
    say(console, f"{path}: {agent.description.algo}, weights alone, sha256 {agent.sha256}")
    say(console, f"Next: sndqn evaluate {path}", style="bold")
