"""The command line: what one can type. What each command does is in the module of its name.

Each command imports what it needs inside its function, so that `sndqn --help` answers at once.
"""

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin

from sndqn.console import say
from sndqn.errors import SndqnError, printable

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from rich.console import Console

USAGE = """\
usage: sndqn COMMAND [options]

Deep Q-learning with spectral normalisation.

commands:
  train      train an agent and evaluate it      sndqn train --env Breakout --sn-layers -2
  evaluate   evaluate an agent again             sndqn evaluate runs/Breakout/...
  replay     make a video of an evaluated game   sndqn replay runs/Breakout/...
  inspect    show an agent and its layers' norms sndqn inspect runs/Breakout/...
  agents     list the agents that ship           sndqn agents
  export     write an agent for other tools      sndqn export runs/Breakout/... --format onnx
  import-sb3 take the weights of an SB3 zip      sndqn import-sb3 dqn.zip --env CartPole ...

`sndqn COMMAND --help` lists a command's options.
"""


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors that say what to type."""

    def error(self, message: str) -> NoReturn:
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


def fail(message: str) -> NoReturn:
    """Ends the program with a message for the person who typed, and status 2."""
    print(f"sndqn: {printable(message)}", file=sys.stderr)
    raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; gives the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"sndqn {version('sndqn')}")
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
        fail(f"no command is called {command!r}: {hint}")
    try:
        COMMANDS[command](rest)
    except SndqnError as error:
        fail(str(error))
    except KeyboardInterrupt as stop:
        signum = getattr(stop, "signum", 2)
        print(f"sndqn: {stop if str(stop) else 'stopped by Ctrl-C'}", file=sys.stderr)
        return 128 + int(signum)
    return 0


def _run_train(argv: Sequence[str]) -> None:
    """`sndqn train`."""
    from sndqn.training.config import SECTIONS, TrainConfig

    parser = _Parser(
        prog="sndqn train",
        usage="sndqn train --env ENV [--sn-layers LAYERS] [options]",
        description="Train an agent, evaluate it, and leave everything in a run folder.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file with settings, or the name of a shipped one, such as dqn-nature",
    )
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="folder of an interrupted run, to go on with; takes no other option",
    )
    _add_code(parser)
    group: Any = parser
    for name, field in TrainConfig.model_fields.items():
        if name in SECTIONS:
            group = parser.add_argument_group(SECTIONS[name])
        if name in ("imports", "wrappers"):
            continue  # --import and --wrapper, as everywhere
        text = (field.description or "").replace("%", "%%")
        option = "--" + name.replace("_", "-")
        if field.annotation in (bool, bool | None):
            group.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
        else:
            default = "" if field.is_required() or field.default is None else f" ({field.default})"
            group.add_argument(option, metavar=_metavar(name, field), help=text + default)
    flags = vars(parser.parse_args(_join_values(argv, parser)))
    flags = {
        name: None if value == "none" and name in _NONES else value for name, value in flags.items()
    }
    _use_code(flags.get("imports", ()), flags.get("wrappers", ()))
    run = flags.pop("resume", None)
    if run is not None:
        _resume(run, flags)
    else:
        _train(flags.pop("config", None), flags)


def _resume(run: str, others: dict[str, Any]) -> None:
    others = {name: value for name, value in others.items() if name not in ("imports", "wrappers")}
    if others:
        option = "--" + next(iter(others)).replace("_", "-")
        fail(f"--resume: goes on with the run's own settings: leave out {option}")
    from sndqn.training.run import resume

    _keep_freed_memory()
    console = _console()
    path = resume(run, console).path
    say(console, f"Next: sndqn replay {path}", style="bold")


def _keep_freed_memory() -> None:
    """Makes updates allocate faster: for a process that trains and does nothing else."""
    from sndqn.algorithms.acceleration import find_acceleration

    acceleration = find_acceleration()
    if acceleration is not None:
        acceleration.keep_freed_memory()


# Settings whose "none" is the absence of a value; for sn_layers it is a value.
_NONES = ("max_grad_norm", "eval_max_steps", "features_dim", "protocol", "net_arch", "channels")


def _metavar(name: str, field: "FieldInfo") -> str:
    """Names an option's value: the choices where it has some, else the option's last word."""
    if get_origin(field.annotation) is Literal:
        return "{" + ",".join(map(str, get_args(field.annotation))) + "}"
    return name.rsplit("_", 1)[-1].upper()


def _join_values(argv: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Writes `--option value` as `--option=value`.

    argparse takes a value such as -2,-3 for an option of its own unless it is joined.
    """
    takes_value = {
        option
        for action in parser._actions
        if action.nargs is None and action.metavar is not None
        for option in action.option_strings
    }
    joined: list[str] = []
    rest = iter(argv)
    for word in rest:
        value = next(rest, None) if word in takes_value else None
        if value is not None and value.startswith("--"):
            parser.error(f"{word}: expected a value, found the option {value}")
        joined.append(word if value is None else f"{word}={value}")
    return joined


def _train(config: str | None, flags: dict[str, Any]) -> None:
    from sndqn.envs import find_env
    from sndqn.training.config import AlgorithmName, make_config
    from sndqn.training.config_files import layered_config, shipped_configs

    if "env" not in flags:
        make_config(flags)  # says that --env is missing, or what else is wrong
    if any(name.endswith(f"/{flags.get('algo')}") for name in shipped_configs()) and (
        flags["algo"] not in get_args(AlgorithmName)
    ):
        fail(f"algo: {flags['algo']} is a configuration. Type --config {flags['algo']}")
    if "algo" in flags:
        make_config({"env": flags["env"], "algo": flags["algo"]})
    names = _without_modules(flags["env"])
    suite, full_name = find_env(names[0])
    short_name = full_name.rsplit("/", 1)[-1].rsplit("-v", 1)[0].lower()
    own_name = short_name if len(names) == 1 else ""
    resolved = layered_config(suite, own_name, config, flags)

    from sndqn.training.run import train as train_agent

    _keep_freed_memory()
    console = _console()
    run = train_agent(resolved, console, flags)
    code = [f" --import {module}" for module in resolved.imports]
    code += [f" --wrapper {wrapper}" for wrapper in resolved.wrappers]
    say(console, f"Next: sndqn replay {run.path}{''.join(code)}", style="bold")


def _run_evaluate(argv: Sequence[str]) -> None:
    """`sndqn evaluate`."""
    parser = _Parser(
        prog="sndqn evaluate", description="Evaluate an agent again.", allow_abbrev=False
    )
    parser.add_argument("agent", help=_AGENT)
    parser.add_argument("--episodes", type=int, metavar="N", help="whole episodes (the run's)")
    parser.add_argument("--epsilon", type=float, metavar="P", help="random actions (the run's)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the episodes (the run's)")
    parser.add_argument("--max-steps", type=int, metavar="N", help="cut episodes (the run's)")
    parser.add_argument(
        "--name", metavar="NAME", help="its folder in evaluations/ (named after how it is made)"
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="where evaluations go (the run, or beside the file)"
    )
    _add_pin(parser)
    arguments = _parsed(parser, argv)

    from sndqn.cli import evaluate as command

    given = {
        name: value
        for name in ("episodes", "epsilon", "seed", "max_steps")
        if (value := getattr(arguments, name)) is not None
    }
    command.evaluate(
        arguments.agent,
        given,
        arguments.name,
        arguments.output,
        arguments.sha256,
        _console(),
        getattr(arguments, "wrappers", ()),
    )


_AGENT = "folder of a run, agent file, or name of a shipped agent, such as CartPole/sn"


def _add_code(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name code: code runs only if its name is typed here."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=argparse.SUPPRESS,
        metavar="MODULE",
        help="import a module first, such as one that registers environments (repeatable)",
    )
    parser.add_argument(
        "--wrapper",
        dest="wrappers",
        action="append",
        default=argparse.SUPPRESS,
        metavar="MODULE:CLASS",
        help="a gymnasium.Wrapper around every environment, the first innermost (repeatable)",
    )


def _use_code(imports: Sequence[str], wrappers: Sequence[str]) -> None:
    if imports or wrappers:
        from sndqn.envs import import_typed, use_wrapper

        for module in imports:
            import_typed(module)
        for wrapper in wrappers:
            use_wrapper(wrapper)


def _without_modules(env: str) -> list[str]:
    """Imports the modules named in --env, and returns the names of the environments alone."""
    from sndqn.envs import import_typed, split_module

    split = [split_module(name.strip()) for name in env.split(",")]
    for module in dict.fromkeys(module for module, _ in split if module is not None):
        import_typed(module, "--env")
    return [name for _, name in split]


def _parsed(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line of a command that runs an agent's environment."""
    _add_code(parser)
    arguments = parser.parse_args(argv)
    _use_code(getattr(arguments, "imports", ()), getattr(arguments, "wrappers", ()))
    return arguments


def _add_evaluation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--evaluation", metavar="NAME", help="one of evaluations/ (the training's own)"
    )


def _add_pin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sha256", metavar="HEX", help="refuse any other agent file than this one")


def _run_replay(argv: Sequence[str]) -> None:
    """`sndqn replay`."""
    parser = _Parser(
        prog="sndqn replay",
        description="Replay an evaluated episode, checking each step against its record, into a "
        "video or a window.",
        allow_abbrev=False,
    )
    parser.add_argument("agent", help=f"{_AGENT}; or an episodes.jsonl or .trace.json file")
    parser.add_argument("--episode", metavar="N", default="best", help="0, 1, ...; best (default)")
    _add_evaluation(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="video file (videos/ in the run's folder), or one .trace.json for the episode",
    )
    parser.add_argument("--values", action="store_true", help="show Q-values beside the picture")
    parser.add_argument("--window", action="store_true", help="play in a window instead")
    _add_pin(parser)
    arguments = _parsed(parser, argv)
    if arguments.sha256 is not None and not arguments.values:
        parser.error("--sha256: the agent is read for --values alone. Type --values too")

    from sndqn.cli import replay as command

    command.replay(
        arguments.agent,
        arguments.episode,
        arguments.evaluation,
        arguments.output,
        arguments.values,
        arguments.window,
        arguments.sha256,
        _console(),
    )


def _run_inspect(argv: Sequence[str]) -> None:
    """`sndqn inspect`."""
    parser = _Parser(
        prog="sndqn inspect",
        description="Show an agent: what it learnt, its score, and the norm of every layer.",
        allow_abbrev=False,
    )
    parser.add_argument("agent", nargs="+", help=f"{_AGENT}; or several")
    _add_evaluation(parser)
    _add_pin(parser)
    arguments = _parsed(parser, argv)

    from sndqn.cli import inspect as command

    for agent in arguments.agent:
        command.inspect(agent, arguments.evaluation, arguments.sha256, _console())


def _run_agents(argv: Sequence[str]) -> None:
    """`sndqn agents`."""
    if argv and argv[0] == "add":
        _add_agent(argv[1:])
        return
    parser = _Parser(
        prog="sndqn agents",
        usage="sndqn agents [NAME]\n       sndqn agents add RUN --name NAME",
        description="List the agents that ship with sndqn, or show the card of one.",
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", help="whose card to show, such as CartPole/sn")
    arguments = parser.parse_args(argv)

    from sndqn.cli import agents as command

    if arguments.name is None:
        command.list_agents(_console())
    else:
        command.show_agent(arguments.name, _console())


def _add_agent(argv: Sequence[str]) -> None:
    parser = _Parser(
        prog="sndqn agents add",
        description="Put a finished run among the agents that ship, with card and index.",
        allow_abbrev=False,
    )
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("--name", required=True, help="its name within its environment")
    _add_evaluation(parser)
    arguments = _parsed(parser, argv)

    from sndqn.cli import agents as command

    command.add(arguments.run, arguments.name, arguments.evaluation, _console())


def _run_export(argv: Sequence[str]) -> None:
    """`sndqn export`."""
    parser = _Parser(
        prog="sndqn export",
        description="Write an agent as a file of its own, for sndqn or for other tools.",
        allow_abbrev=False,
    )
    parser.add_argument("agent", help=_AGENT)
    parser.add_argument(
        "--format",
        choices=("sndqn", "onnx", "sb3"),
        default="sndqn",
        help="an agent file (default), an ONNX model, or a zip for Stable-Baselines3",
    )
    parser.add_argument("--output", metavar="FILE", help="a new file (the agent's name, here)")
    _add_pin(parser)
    arguments = _parsed(parser, argv)

    from sndqn.cli import convert

    convert.export(
        arguments.agent, arguments.format, arguments.output, arguments.sha256, _console()
    )


def _run_import_sb3(argv: Sequence[str]) -> None:
    """`sndqn import-sb3`."""
    parser = _Parser(
        prog="sndqn import-sb3",
        description="Take the weights, and nothing else, out of a zip that Stable-Baselines3's "
        "save() wrote, of its DQN with MlpPolicy or CnnPolicy or of sndqn's algorithms and "
        "policies. No pickle in it is read; what weights do not tell, you do.",
        allow_abbrev=False,
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
        choices=("relu", "tanh", "elu", "gelu", "silu"),
        default="relu",
        help="of its hidden layers, which the weights do not tell (relu)",
    )
    parser.add_argument(
        "--sn-mode",
        choices=("normalize", "shrink", "track"),
        default="normalize",
        help="of its layers under SN, which the weights do not tell (normalize)",
    )
    parser.add_argument("--v-min", type=float, metavar="RETURN", help="lowest of C51's atoms")
    parser.add_argument("--v-max", type=float, metavar="RETURN", help="highest of C51's atoms")
    parser.add_argument(
        "--n-acting-quantiles", type=int, metavar="N", help="fractions that IQN acts by (32)"
    )
    arguments = _parsed(parser, argv)

    _without_modules(arguments.env)
    names = ("env", "protocol", "env_kwargs", "imports", "wrappers")
    given = {name: getattr(arguments, name, None) for name in names}

    from sndqn.cli import convert

    convert.import_agent(
        arguments.zip,
        {name: value for name, value in given.items() if value is not None},
        {name: getattr(arguments, name) for name in _UNTOLD},
        arguments.output,
        _console(),
    )


# What the weights in a zip do not tell.
_UNTOLD = ("activation", "sn_mode", "v_min", "v_max", "n_acting_quantiles")


def _console() -> "Console":
    from rich.console import Console

    return Console()


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": _run_train,
    "evaluate": _run_evaluate,
    "replay": _run_replay,
    "inspect": _run_inspect,
    "agents": _run_agents,
    "export": _run_export,
    "import-sb3": _run_import_sb3,
}
