"""`sndqn watch`: an agent plays now, in a window."""

import argparse
from collections.abc import Sequence
from typing import Any

from sndqn.cli.options import AGENT, Parser, add_pin, add_told, make_console, parse, told
from sndqn.errors import ConfigError


def run(argv: Sequence[str]) -> None:
    """Shows an agent's games in a window until it is closed."""
    parser = Parser(
        "watch",
        "Watch an agent play, in a window; of a run in training the newest weights. Keys: space "
        "pauses, . steps, + and - change the speed, n begins the next game, v shows values, h "
        "lists the keys, q quits.",
    )
    parser.add_argument(
        "agent", help=f"{AGENT}; or an environment: its shipped agent plays, else random actions"
    )
    parser.add_argument("--games", type=int, metavar="N", help="close after N (goes on)")
    parser.add_argument("--epsilon", type=float, metavar="P", help="random actions (the run's)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the games (the run's)")
    parser.add_argument(
        "--speed", type=float, default=1.0, metavar="X", help="2 is twice the game's own (1)"
    )
    parser.add_argument(
        "--values",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show Q-values beside the picture (default)",
    )
    add_pin(parser)
    add_told(parser)
    arguments = parse(parser, argv)

    from sndqn.agents import find_agent
    from sndqn.training.watching import Viewing, names_environment, watch_agent, watch_environment

    how = Viewing(
        arguments.games, arguments.epsilon, arguments.seed, arguments.speed, arguments.values
    )
    console, name = make_console(), arguments.agent
    if names_environment(name):
        watch_environment(_environment(arguments), how, console, arguments.sha256)
    else:
        watch_agent(name, find_agent(name, told(arguments)), how, console, arguments.sha256)


def _environment(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings that say which environment was named."""
    given = {"protocol": arguments.protocol, "env_kwargs": arguments.env_kwargs}
    others = ("env", "activation", "sn_mode", "v_min", "v_max", "n_acting_quantiles")
    for name in others:
        if getattr(arguments, name) is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')}: expected an agent with it, found the environment "
                f"{arguments.agent}: leave it out"
            )
    return {
        "env": arguments.agent,
        "imports": arguments.imports or (),
        "wrappers": arguments.wrappers or (),
        **{name: value for name, value in given.items() if value is not None},
    }
