"""The command line: a module a command, what one can type beside what it does.

A module defines `run(argv)`. What needs torch or an emulator is imported in the function that needs
it, so that help and mistyped options are answered at once.
"""

import difflib
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from sndqn.cli.options import Parser, built_parser, fail
from sndqn.errors import SndqnError, printable

USAGE = """\
usage: sndqn COMMAND [options]

Deep Q-learning with spectral normalisation.

commands, and what to type after them:
  demo       see it at work in three minutes
  train      train an agent and evaluate it       --env Breakout --sn-layers -2
  sweep      train a study of many runs           STUDY --env Pong --seed 0..9
  tune       search the best settings             TUNING --env CartPole ...
  runs       list the runs of a study or folder   STUDY --where sn_layers=-2
  evaluate   evaluate an agent again              runs/Breakout/...
  replay     make a video of an evaluated game    runs/Breakout/...
  watch      watch an agent play, in a window     runs/Breakout/...
  inspect    show an agent and its layers' norms  runs/Breakout/...
  report     show what runs say, on one page      runs/
  agents     list the agents that ship
  push       put an agent on huggingface.co       runs/Breakout/... USER/NAME
  pull       fetch an agent of huggingface.co     USER/NAME
  export     write an agent for other tools       RUN --format onnx
  doctor     look at this machine
  completion complete commands in a shell         bash|zsh|fish
  import-sb3 take the weights of an SB3 zip       dqn.zip --env CartPole ...

`sndqn COMMAND --help` lists a command's options.
"""
# The module of each command.
COMMANDS = {
    "demo": "sndqn.cli.demo",
    "train": "sndqn.cli.train",
    "sweep": "sndqn.cli.sweep",
    "tune": "sndqn.cli.tune",
    "runs": "sndqn.cli.runs",
    "evaluate": "sndqn.cli.evaluate",
    "replay": "sndqn.cli.replay",
    "watch": "sndqn.cli.watch",
    "inspect": "sndqn.cli.inspect",
    "report": "sndqn.cli.report",
    "agents": "sndqn.cli.agents",
    "push": "sndqn.cli.push",
    "pull": "sndqn.cli.pull",
    "export": "sndqn.cli.export",
    "import-sb3": "sndqn.cli.import_sb3",
    "doctor": "sndqn.cli.doctor",
    "completion": "sndqn.cli.completion",
}


def parsers() -> dict[str, Parser]:
    """Returns the parser of every command, without running any."""
    return {name: built_parser(importlib.import_module(COMMANDS[name]).run) for name in COMMANDS}


def _one_line(message: Warning | str, *_: object) -> str:
    """Writes a warning for the person who typed, who has no use for the line of code."""
    return f"sndqn: {printable(str(message))}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"sndqn {version('sndqn')}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
        fail(f"no command is called {name!r}: {hint}")
    warnings.formatwarning = _one_line  # type: ignore[assignment]
    try:
        importlib.import_module(COMMANDS[name]).run(rest)
    except SndqnError as error:
        fail(str(error))
    except KeyboardInterrupt as stop:
        signum = getattr(stop, "signum", 2)
        print(f"sndqn: {stop if str(stop) else 'stopped by Ctrl-C'}", file=sys.stderr)
        return 128 + int(signum)
    except BrokenPipeError:  # whoever read the output has seen enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    return 0
