"""The commands: train, evaluate, replay, inspect.

Each imports what it needs inside itself, so that `sndqn --help` answers at once.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin

from sndqn.errors import SndqnError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from rich.console import Console

    from sndqn.runs.folder import RunFolder

USAGE = """\
usage: sndqn COMMAND [options]

Deep Q-learning with spectral normalisation.

commands:
  train      train an agent and evaluate it      sndqn train --env Breakout --sn-layers -2
  evaluate   evaluate the agent of a run         sndqn evaluate runs/Breakout/...
  replay     make a video of an evaluated game   sndqn replay runs/Breakout/...
  inspect    show a run and its layers' norms    sndqn inspect runs/Breakout/...

`sndqn COMMAND --help` lists a command's options.
"""


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors that say what to type."""

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            word = message.removeprefix(prefix).split()[0]
            options = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(word.split("=")[0], options, n=1)
            hint = f": did you mean {near[0]}?" if near else f". `{self.prog} --help` lists them"
            message = f"no option is called {word!r}{hint}"
        fail(message)


def fail(message: str) -> NoReturn:
    """Ends the program with a message for the person who typed, and status 2."""
    print(f"sndqn: {message}", file=sys.stderr)
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
    except KeyboardInterrupt:
        print("sndqn: stopped by Ctrl-C", file=sys.stderr)
        return 130
    return 0


def train(argv: Sequence[str]) -> None:
    """`sndqn train`."""
    from sndqn.config import SECTIONS, TrainConfig

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
    group: Any = parser
    for name, field in TrainConfig.model_fields.items():
        if name in SECTIONS:
            group = parser.add_argument_group(SECTIONS[name])
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
    _train(flags.pop("config", None), flags)


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
    from sndqn.config import AlgorithmName, make_config
    from sndqn.config_files import layered_config, shipped_configs
    from sndqn.envs import resolve_env

    if "env" not in flags:
        make_config(flags)  # says that --env is missing, or what else is wrong
    if any(name.endswith(f"/{flags.get('algo')}") for name in shipped_configs()) and (
        flags["algo"] not in get_args(AlgorithmName)
    ):
        fail(f"algo: {flags['algo']} is a configuration. Type --config {flags['algo']}")
    if "algo" in flags:
        make_config({"env": flags["env"], "algo": flags["algo"]})
    names = str(flags["env"]).split(",")
    settings = resolve_env(names[0].strip())
    short_name = settings.name.rsplit("/", 1)[-1].rsplit("-v", 1)[0].lower()
    own_name = short_name if len(names) == 1 else ""
    resolved = layered_config(settings.suite, own_name, config, flags)

    from sndqn.training import train as train_agent

    console = _console()
    run = train_agent(resolved, console)
    console.print(f"Next: sndqn replay {run.path}", style="bold", highlight=False, soft_wrap=True)


def evaluate(argv: Sequence[str]) -> None:
    """`sndqn evaluate`."""
    parser = _Parser(
        prog="sndqn evaluate", description="Evaluate the agent of a run again.", allow_abbrev=False
    )
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("--episodes", type=int, metavar="N", help="whole episodes (the run's)")
    parser.add_argument("--epsilon", type=float, metavar="P", help="random actions (the run's)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the episodes (the run's)")
    parser.add_argument("--max-steps", type=int, metavar="N", help="cut episodes (the run's)")
    arguments = parser.parse_args(argv)

    from dataclasses import replace

    from sndqn.runs.folder import RunFolder

    run = RunFolder.open(arguments.run)
    from sndqn.components import protocol
    from sndqn.training import evaluate_run

    given = {
        name: value
        for name in ("episodes", "epsilon", "seed", "max_steps")
        if (value := getattr(arguments, name)) is not None
    }
    console = _console()
    evaluate_run(run, replace(protocol(_config_of(run)), **given), console)
    console.print(f"Next: sndqn replay {run.path}", style="bold", highlight=False, soft_wrap=True)


def _config_of(run: "RunFolder") -> Any:
    from sndqn.config import make_config
    from sndqn.config_files import read_config

    return make_config(read_config(str(run.config)))


def replay(argv: Sequence[str]) -> None:
    """`sndqn replay`."""
    parser = _Parser(
        prog="sndqn replay",
        description="Replay an evaluated episode, checking each step against its record, into a "
        "video or a window.",
        allow_abbrev=False,
    )
    parser.add_argument("run", help="folder of a run, or a .trace.json file")
    parser.add_argument("--episode", metavar="N", default="best", help="0, 1, ...; best (default)")
    parser.add_argument("--output", metavar="FILE", help="video file (videos/ in the run's folder)")
    parser.add_argument("--values", action="store_true", help="show Q-values beside the picture")
    parser.add_argument("--window", action="store_true", help="play in a window instead")
    arguments = parser.parse_args(argv)
    _replay(arguments)


def _replay(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from sndqn.evaluation import (
        read_trace,
        rendering_of,
        show_window,
        trace_frames,
        version_differences,
        write_video,
    )
    from sndqn.runs.folder import RunFolder

    given = Path(arguments.run)
    run = None if given.is_file() else RunFolder.open(given)
    path = given if run is None else _chosen_trace(run, arguments.episode)
    trace = read_trace(path)
    q_values = None
    if arguments.values:
        from sndqn.zoo import load_agent

        if run is None:
            run = RunFolder.open(path.resolve().parent.parent)
        q_values = load_agent(run.agent).q_values
    console = _console()
    for line in version_differences(trace):
        console.print(line, style="yellow", highlight=False, soft_wrap=True)
    if not arguments.window:
        # pygame then looks for no display, and complains of none, while it draws into memory.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    frames = trace_frames(trace, q_values)
    fps = rendering_of(trace).fps
    if arguments.window:
        show_window(frames, fps)
        return
    name = path.name.removesuffix(".trace.json") + ("-values" if arguments.values else "")
    folder = path.parent if run is None else run.videos
    output = Path(arguments.output) if arguments.output else folder / f"{name}.mp4"
    if arguments.output is None:
        folder.mkdir(exist_ok=True)
    count = write_video(output, _with_progress(frames, trace.length + 1, console), fps)
    console.print(
        f"{path.name}: return {trace.episode_return:g} in {trace.length} steps, replayed exactly",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"{output}: {count} frames", style="bold", highlight=False, soft_wrap=True)


def _with_progress(frames: Iterator[Any], total: int, console: "Console") -> Iterator[Any]:
    from rich.progress import track

    return iter(
        track(
            frames,
            "replaying",
            total=total,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
    )


def _chosen_trace(run: "RunFolder", episode: str) -> Any:
    import json

    from sndqn.errors import RunFolderError

    if not run.evaluation.is_file():
        raise RunFolderError(f"{run.path} has no evaluation yet: type sndqn evaluate {run.path}")
    returns = [row["episode_return"] for row in json.loads(run.evaluation.read_text())["episodes"]]
    if episode == "best":
        return run.trace(returns.index(max(returns)))
    if not episode.isdigit() or int(episode) >= len(returns):
        raise RunFolderError(
            f"--episode: expected best or a number from 0 to {len(returns) - 1}, found {episode!r}"
        )
    return run.trace(int(episode))


def inspect(argv: Sequence[str]) -> None:
    """`sndqn inspect`."""
    parser = _Parser(
        prog="sndqn inspect",
        description="Show an agent: what it learnt, its score, and the norm of every layer.",
        allow_abbrev=False,
    )
    parser.add_argument("run", help="folder of a run, or an agent file")
    arguments = parser.parse_args(argv)

    import json
    from pathlib import Path

    from sndqn.runs.folder import RunFolder

    given = Path(arguments.run)
    run = None if given.is_file() else RunFolder.open(given)
    from sndqn.diagnostics import layer_norms
    from sndqn.report import layer_table
    from sndqn.zoo import load_agent

    agent = load_agent(given if run is None else run.agent)
    about = agent.description
    console = _console()
    console.print(about.settings.describe(), highlight=False, soft_wrap=True)
    console.print(
        f"{about.algo}, {about.timesteps:,} steps, seed {about.seed}; sha256 {agent.sha256}",
        highlight=False,
        soft_wrap=True,
    )
    if run is not None and run.evaluation.is_file():
        returns = [e["episode_return"] for e in json.loads(run.evaluation.read_text())["episodes"]]
        mean = sum(returns) / len(returns)
        console.print(f"mean return {mean:.1f} over {len(returns)} episodes", highlight=False)
    console.print(
        layer_table(layer_norms(agent.network, agent.network.observation_space, exact=True))
    )


def _console() -> "Console":
    from rich.console import Console

    return Console()


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "replay": replay,
    "inspect": inspect,
}

if __name__ == "__main__":
    sys.exit(main())
