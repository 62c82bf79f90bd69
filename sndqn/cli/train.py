"""`sndqn train`: trains an agent and evaluates it, or goes on with a training."""

import argparse
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from sndqn.cli.options import Parser, add_code, fail, use_code
from sndqn.cli.results import Output, add_output, run_result

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from sndqn.runs.folder import RunFolder


def run(argv: Sequence[str]) -> None:
    """Trains, or goes on with the run that --resume names."""
    parser = Parser(
        "train",
        "Train an agent, evaluate it, and leave everything in a run folder.",
        usage="sndqn train --env ENV [--sn-layers LAYERS] [options]\n"
        "       sndqn train --resume RUN\n"
        "       sndqn train --more STEPS RUN",
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
    parser.add_argument(
        "--more",
        metavar="STEPS",
        help="go on for so many steps with the finished RUN; takes no other option",
    )
    parser.add_argument("run", metavar="RUN", nargs="?", help="folder of the run, for --more")
    add_output(parser)
    add_code(parser)
    add_settings(parser)
    flags = _flags(parser.parse_args(_join_values(argv, parser)))
    path, output = flags.pop("run", None), Output(flags.pop("quiet"), flags.pop("json"))
    if path is not None and "more" not in flags:
        parser.error(f"unrecognized arguments: {path}")
    use_code(flags.get("imports"), flags.get("wrappers"))
    if "more" in flags:
        found = _more(flags.pop("more"), path, flags, output)
    elif "resume" in flags:
        found = _resume(flags.pop("resume"), flags, output)
    else:
        found = _train(flags.pop("config", None), flags, output)
    output.result(lambda: run_result(found), f"sndqn replay {found.path}{_code_options(flags)}")


def _train(config: str | None, flags: dict[str, Any], output: Output) -> "RunFolder":
    """Trains an agent.

    Args:
        config: A file, or the name of a shipped configuration.
        flags: Settings given one by one; the code that the environment takes is added.
        output: Where to say how it goes.
    """
    from sndqn.training.config import make_config
    from sndqn.training.config_files import layered_config, shipped_configs
    from sndqn.training.settings import AlgorithmName

    algo = flags.get("algo")
    if algo not in get_args(AlgorithmName) and any(
        name.endswith(f"/{algo}") for name in shipped_configs()
    ):
        fail(f"algo: {algo} is a configuration. Type --config {algo}")
    # Says that --env is missing, or what else is wrong with it.
    first = {name: value for name, value in flags.items() if name in ("env", "algo")}
    use_code(make_config(first if "env" in flags else flags).imports, option="--env")
    resolved = layered_config(flags, config)

    from sndqn.training.run import train

    keep_freed_memory()
    run = train(resolved, output.console, flags)
    flags |= {"imports": resolved.imports, "wrappers": resolved.wrappers}
    return run


def _code_options(flags: dict[str, Any]) -> str:
    """Writes the code that has to be typed again."""
    code = [f" --import {module}" for module in flags.get("imports") or ()]
    code += [f" --wrapper {wrapper}" for wrapper in flags.get("wrappers") or ()]
    return "".join(code)


def _resume(path: str, flags: dict[str, Any], output: Output) -> "RunFolder":
    """Goes on with an interrupted run."""
    _refuse_settings("--resume", flags)

    from sndqn.training.run import resume

    keep_freed_memory()
    return resume(path, output.console)


def _more(steps: str, path: str | None, flags: dict[str, Any], output: Output) -> "RunFolder":
    """Goes on with a finished run."""
    _refuse_settings("--more", flags)
    if path is None:
        fail(f"--more: expected the folder of a finished run. Type sndqn train --more {steps} RUN")

    from sndqn.training.settings import whole_number

    timesteps = whole_number(steps)
    if not isinstance(timesteps, int):
        fail(f"--more: expected a number of steps, such as 1e6, found {steps!r}")

    from sndqn.training.run import train_more

    keep_freed_memory()
    return train_more(path, timesteps, output.console)


def _refuse_settings(option: str, flags: dict[str, Any]) -> None:
    """Refuses what a run has of its own; code is the only other thing to type."""
    others = [name for name in flags if name not in ("imports", "wrappers")]
    if others:
        typed = "--" + others[0].replace("_", "-")
        fail(f"{option}: goes on with the run's own settings: leave out {typed}")


def keep_freed_memory() -> None:
    """Makes updates allocate faster: for a process that trains and does nothing else."""
    from sndqn.algorithms.acceleration import find_acceleration

    acceleration = find_acceleration()
    if acceleration is not None:
        acceleration.keep_freed_memory()


def add_settings(parser: Parser, without: Collection[str] = ()) -> None:
    """Adds an option for each setting of a configuration, by section.

    Args:
        parser: Where to.
        without: Names of settings that get none.
    """
    from sndqn.training.settings import SECTIONS

    for section in SECTIONS:
        group = parser.add_argument_group(section.heading)
        for name, field in section.model_fields.items():
            if name in ("imports", "wrappers", *without):
                continue  # --import and --wrapper, as everywhere
            text = (field.description or "").replace("%", "%%")
            option = "--" + name.replace("_", "-")
            if field.annotation in (bool, bool | None):
                group.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
                continue
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            if default is not None:
                text += f" ({default})"
            group.add_argument(option, metavar=_metavar(name, field), help=text)


def _metavar(name: str, field: "FieldInfo") -> str:
    """Names an option's value: the choices where it has some, else the option's last word."""
    if get_origin(field.annotation) is Literal:
        return "{" + ",".join(map(str, get_args(field.annotation))) + "}"
    return name.rsplit("_", 1)[-1].upper()


def _flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what was typed by name."""
    return {name: typed_value(name, value) for name, value in vars(arguments).items()}


def typed_value(name: str, value: Any) -> Any:
    """Returns what was typed for a setting: "none" is no value, where it may have none."""
    from sndqn.training.settings import SETTINGS

    may_be_none = name in SETTINGS and type(None) in get_args(SETTINGS[name].annotation)
    return None if value == "none" and may_be_none else value


def _join_values(argv: Sequence[str], parser: Parser) -> list[str]:
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
