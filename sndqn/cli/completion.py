"""`sndqn completion`: what a shell needs to complete commands, options, names and runs.

The script that it prints holds all words that there are now; runs are looked up by the shell
itself. Pressing Tab starts no Python, so it answers at once.
"""

import importlib.util
import re
import sys
from argparse import Action
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sndqn.cli.options import Parser

SHELLS = ("bash", "zsh", "fish")
# Kinds of values, by the option they belong to or what stands for them in the usage. Others are
# the user's own numbers and words.
_KINDS = {
    "--env": "env",
    "--config": "config",
    "--init-from": "agent",
    "--side-by-side": "agent",
    "--runs-dir": "folder",
    "--output": "file",
    "--study": "file",
    "--file": "file",
    "--resume": "run",
    "run": "run",
    "agent": "agent",
    "path": "run",
    "zip": "file",
}
# Of Gymnasium's own; MinAtar's and Atari's are looked up.
_CONTROL = ("Acrobot", "CartPole", "LunarLander", "MountainCar")
_LONGEST_HELP = 70


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Attributes:
        names: As typed, "--env".
        help: A few words.
        values: Kind of its value, or its choices with spaces between; "" for a word of the user's
            own, None where it takes none.
    """

    names: tuple[str, ...]
    help: str
    values: str | None


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: As typed.
        help: A few words.
        options: Its options.
        words: Kind of its other words, or choices with spaces between; "" where it takes none.
    """

    name: str
    help: str
    options: tuple[Option, ...]
    words: str


def run(argv: Sequence[str]) -> None:
    """Prints the script of a shell."""
    parser = Parser(
        "completion",
        "Print what a shell needs to complete sndqn's commands. docs/shell.md says where to put "
        "it.",
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell: bash, zsh or fish")
    shell = parser.parse_args(argv).shell

    from sndqn.cli.completion_scripts import script

    sys.stdout.write(script(shell, commands(), words()))


def commands() -> list[Command]:
    """Describes every command, by the parser that it builds."""
    from sndqn.cli import USAGE, parsers

    lines = (re.match(r"  ([a-z0-9-]+) +(.+?)(?:  |$)", line) for line in USAGE.splitlines())
    helps = {match[1]: match[2].strip() for match in lines if match}
    return [_command(name, helps[name], parser) for name, parser in parsers().items()]


def _command(name: str, text: str, parser: Parser) -> Command:
    options = [action for action in parser._actions if action.option_strings]
    places = [action for action in parser._actions if not action.option_strings]
    kinds = [_values(action) or "" for action in places]
    if name == "agents":
        kinds = ["shipped"]
    return Command(name, text, tuple(map(_option, options)), next(filter(None, kinds), ""))


def _option(action: Action) -> Option:
    first = re.split(r"[;:(]|\. ", action.help or "")[0].strip()
    if len(first) > _LONGEST_HELP:
        first = first[:_LONGEST_HELP].rpartition(" ")[0] + " ..."
    return Option(tuple(action.option_strings), first.replace("%%", "%"), _values(action))


def _values(action: Action) -> str | None:
    """Returns the kind of what an option or place takes, or its choices."""
    if action.nargs == 0:
        return None
    if action.choices is not None:
        return " ".join(map(str, action.choices))
    listed = re.fullmatch(r"\{(.+)\}", str(action.metavar))
    if listed:
        return listed[1].replace(",", " ")
    return _KINDS.get(action.option_strings[-1] if action.option_strings else action.dest, "")


def words() -> dict[str, list[str]]:
    """Returns the words of each kind that sndqn itself knows."""
    from sndqn.agents.shipped import shipped_agents
    from sndqn.files.shipped import shipped_dir

    configs = (path.stem for path in shipped_dir("configs").rglob("*.yaml"))
    return {
        "env": sorted([*_CONTROL, *_games()]),
        "config": sorted({name for name in configs if not name.startswith("dqn-")} | _dqns()),
        "shipped": sorted(shipped_agents()),
    }


def _dqns() -> set[str]:
    """Returns the configurations of DQN that are typed; those of one environment are found."""
    from sndqn.files.shipped import shipped_dir

    root = shipped_dir("configs")
    found = [*(root / "atari").glob("dqn*.yaml"), *(root / "minatar").glob("dqn*.yaml")]
    return {path.stem for path in found}


def _games() -> list[str]:
    """Returns the games of MinAtar and Atari; importing an emulator would take a second."""
    from sndqn.envs.names import TWO_PLAYER_ROMS
    from sndqn.envs.settings import MINATAR_GAMES, title_of

    found = [f"MinAtar/{title_of(game)}" for game in MINATAR_GAMES]
    spec = importlib.util.find_spec("ale_py")
    for folder in (spec and spec.submodule_search_locations) or ():
        roms = (path.stem for path in Path(folder, "roms").glob("*.bin"))
        found += [title_of(rom) for rom in roms if rom not in TWO_PLAYER_ROMS]
    return found
