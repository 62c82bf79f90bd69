"""`sndqn import-sb3`: an agent file of the weights in a zip of Stable-Baselines3."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from sndqn.cli.options import Parser, make_console, new_file, parse, use_code
from sndqn.console import say
from sndqn.files import write_bytes

# What the weights in a zip do not tell.
_UNTOLD = ("activation", "sn_mode", "v_min", "v_max", "n_acting_quantiles")


def run(argv: Sequence[str]) -> None:
    """Makes an agent file of the weights in a zip."""
    from sndqn.training.settings import Network, SpectralNorm

    parser = Parser(
        "import-sb3",
        "Take the weights, and nothing else, out of a zip that Stable-Baselines3's save() wrote, "
        "of its DQN with MlpPolicy or CnnPolicy or of sndqn's algorithms and policies. No pickle "
        "in it is read; what weights do not tell, you do.",
    )
    parser.add_argument("zip", help="zip that save() wrote")
    parser.add_argument("--env", metavar="NAME", required=True, help="environment it learnt")
    parser.add_argument("--output", metavar="FILE", required=True, help="a new agent file")
    parser.add_argument("--protocol", metavar="NAME", help="Atari's conventions it learnt under")
    parser.add_argument(
        "--env-kwargs", metavar="MAPPING", help="keywords of the environment: '{gravity: -5.0}'"
    )
    parser.add_argument(
        "--activation",
        choices=get_args(Network.model_fields["activation"].annotation),
        default="relu",
        help="of its hidden layers, which the weights do not tell (relu)",
    )
    parser.add_argument(
        "--sn-mode",
        choices=get_args(SpectralNorm.model_fields["sn_mode"].annotation),
        default="normalize",
        help="of its layers under SN, which the weights do not tell (normalize)",
    )
    parser.add_argument("--v-min", type=float, metavar="RETURN", help="lowest of C51's atoms")
    parser.add_argument("--v-max", type=float, metavar="RETURN", help="highest of C51's atoms")
    parser.add_argument(
        "--n-acting-quantiles", type=int, metavar="N", help="fractions that IQN acts by (32)"
    )
    arguments = parse(parser, argv)

    from sndqn.agents import agent_from_bytes
    from sndqn.agents.inference import Untold
    from sndqn.agents.sb3_import import import_sb3
    from sndqn.diagnostics.tables import spectral_sentence
    from sndqn.training.config import make_config
    from sndqn.training.plan import env_settings

    names = ("env", "protocol", "env_kwargs", "imports", "wrappers")
    given = {name: getattr(arguments, name) for name in names}
    config = make_config({name: value for name, value in given.items() if value is not None})
    use_code(config.imports, option="--env")
    path = new_file(arguments.output)
    settings = env_settings(config)
    untold = Untold(**{name: getattr(arguments, name) for name in _UNTOLD})
    content = import_sb3(Path(arguments.zip), settings, untold)
    agent = agent_from_bytes(content, arguments.zip)
    write_bytes(path, content)
    console, network = make_console(), agent.description.network
    say(console, settings.describe())
    mode = f", --sn-mode {network.spectral.mode}" if network.spectral.layers != "none" else ""
    say(console, f"Weights do not tell, so taken: --activation {network.activation}{mode}")
    say(console, spectral_sentence(agent.network, network.spectral))
    say(console, f"{path}: {agent.description.algo}, weights alone, sha256 {agent.sha256}")
    say(console, f"Next: sndqn evaluate {path}", style="bold")
