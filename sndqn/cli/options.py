"""What commands share: their parser, the options that several of them take, where they print."""

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from sndqn.errors import AgentFileError, printable

if TYPE_CHECKING:
    from rich.console import Console

    from sndqn.agents.told import Told

AGENT = (
    "folder of a run, agent file, zip of Stable-Baselines3, folder of rl-zoo, name of a shipped "
    "agent, such as CartPole/sn, or hf://USER/NAME"
)
_TOLD = (
    "env",
    "protocol",
    "env_kwargs",
    "activation",
    "sn_mode",
    "v_min",
    "v_max",
    "n_acting_quantiles",
)


def fail(message: str) -> NoReturn:
    """Ends the program with a message for the person who typed, and status 2."""
    print(f"sndqn: {printable(message)}", file=sys.stderr)
    raise SystemExit(2)


class _ParserBuilt(Exception):
    """Ends a command that is asked for its parser alone."""


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that say what to type.

    Args:
        command: What is typed after `sndqn`.
        description: A sentence or two for `--help`.
        **kwargs: Further arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, command: str, description: str, **kwargs: Any) -> None:
        prog = f"sndqn {command}"
        super().__init__(prog=prog, description=description, allow_abbrev=False, **kwargs)

    _wanted: ClassVar[list["Parser"] | None] = None

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        """Reads what was typed, unless the parser itself is wanted."""
        if Parser._wanted is not None:
            Parser._wanted.append(self)
            raise _ParserBuilt
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the program with the message, or with what was probably meant."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            word = next(iter(message.removeprefix(prefix).split()), "")
            options = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(word.split("=")[0], options, n=1)
            hint = f": did you mean {near[0]}?" if near else f". `{self.prog} --help` lists them"
            message = f"no option is called {word!r}{hint}"
            if not word.startswith("-"):
                message = (
                    f"expected no {word!r} here. `{self.prog} --help` shows which options take a "
                    "value"
                )
        fail(message)


def built_parser(run: Callable[[Sequence[str]], None]) -> Parser:
    """Returns the parser that a command builds, without running the command.

    Args:
        run: The command's function.
    """
    wanted: list[Parser] = []
    Parser._wanted = wanted
    try:
        with suppress(_ParserBuilt):
            run([])
    finally:
        Parser._wanted = None
    return wanted[0]


def add_evaluation(parser: Parser) -> None:
    """Adds --evaluation."""
    parser.add_argument(
        "--evaluation", metavar="NAME", help="one of evaluations/ (the training's own)"
    )


def add_pin(parser: Parser) -> None:
    """Adds --sha256."""
    parser.add_argument("--sha256", metavar="HEX", help="refuse any other agent file than this one")


def add_code(parser: Parser) -> None:
    """Adds --import and --wrapper: code runs only if its name is typed there."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        metavar="MODULE",
        help="import a module first, such as one that registers environments (repeatable)",
    )
    parser.add_argument(
        "--wrapper",
        dest="wrappers",
        action="append",
        metavar="MODULE:CLASS",
        help="a gymnasium.Wrapper around every environment, the first innermost (repeatable)",
    )


def add_told(parser: Parser) -> None:
    """Adds what a zip of Stable-Baselines3 may not say of itself; `told` reads it."""
    group = parser.add_argument_group(
        "of a zip of Stable-Baselines3", "what neither it nor rl-zoo's files beside it say"
    )
    group.add_argument("--env", metavar="NAME", help="environment it learnt")
    group.add_argument("--protocol", metavar="NAME", help="Atari's conventions it learnt under")
    group.add_argument(
        "--env-kwargs", metavar="MAPPING", help="keywords of the environment: '{gravity: -5.0}'"
    )
    group.add_argument("--activation", metavar="NAME", help="of its hidden layers, such as relu")
    group.add_argument("--sn-mode", metavar="NAME", help="of its layers under SN: normalize, ...")
    group.add_argument("--v-min", type=float, metavar="RETURN", help="lowest of C51's atoms")
    group.add_argument("--v-max", type=float, metavar="RETURN", help="highest of C51's atoms")
    group.add_argument(
        "--n-acting-quantiles", type=int, metavar="N", help="fractions that IQN acts by"
    )


def told(arguments: argparse.Namespace) -> "Told":
    """Returns what was typed of a zip of Stable-Baselines3."""
    given = {name: getattr(arguments, name) for name in _TOLD}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        from sndqn.agents.told import Told

        return Told()
    from sndqn.training.told import tell

    return tell(given, arguments.imports or (), arguments.wrappers or ())


def use_code(
    modules: Sequence[str] | None, wrappers: Sequence[str] | None = None, option: str = "--import"
) -> None:
    """Imports the modules and takes the wrappers that were typed.

    Args:
        modules: Names of modules.
        wrappers: Names of wrappers, "module:Class".
        option: Where the modules were typed, for messages.
    """
    if modules or wrappers:
        from sndqn.envs import import_typed, use_wrapper

        for module in modules or ():
            import_typed(module, option)
        for wrapper in wrappers or ():
            use_wrapper(wrapper)


def parse(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Reads what was typed after a command that runs environments, and uses the code in it."""
    add_code(parser)
    arguments = parser.parse_args(argv)
    use_code(arguments.imports, arguments.wrappers)
    return arguments


def new_file(output: str) -> Path:
    """Returns the file that --output names, which must not exist yet.

    Raises:
        AgentFileError: It does.
    """
    path = Path(output)
    if path.exists():
        raise AgentFileError(f"--output: {path} exists already. Type another name")
    return path


def make_console() -> "Console":
    """Makes what commands print on."""
    from rich.console import Console

    return Console()
