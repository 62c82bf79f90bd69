"""`sndqn doctor`: whether this machine has what trainings need, how fast it is, what to type."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from sndqn.cli.options import Parser
from sndqn.cli.results import add_json, print_json
from sndqn.console import say
from sndqn.runs.folder import default_runs_dir

if TYPE_CHECKING:
    from sndqn.study.machine import Finding

_STYLES = {"ok": "green", "note": "yellow", "wrong": "red"}


def run(argv: Sequence[str]) -> None:
    """Looks at the machine, and says what it found."""
    parser = Parser(
        "doctor",
        "Look at this machine: versions, cores, compiler, GPU, memory, disk, display, video, and "
        "how long the default trainings take on it. Writes nothing; takes less than a minute.",
    )
    parser.add_argument(
        "--no-speed",
        dest="speed",
        action="store_false",
        help="leave out the measurements of speed, which take most of the time",
    )
    add_json(parser)
    arguments = parser.parse_args(argv)

    from rich.console import Console

    from sndqn.study.machine import look
    from sndqn.study.speeds import measure_speeds

    console = Console(stderr=arguments.json)
    found: list[Finding] = []
    for finding in look(default_runs_dir()):
        found.append(finding)
        _show(console, finding, arguments.json)
    if arguments.speed:
        for finding in measure_speeds():
            found.append(finding)
            _show(console, finding, arguments.json)
    wrong = [finding for finding in found if finding.verdict == "wrong"]
    if arguments.json:
        print_json({"ok": not wrong, "findings": [asdict(finding) for finding in found]})
    elif not wrong:
        say(console, "Nothing is in the way. Next: sndqn demo", style="bold")
    if wrong:
        raise SystemExit(1)


def _show(console: object, finding: "Finding", as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    assert isinstance(console, Console)
    if as_json:
        return
    # A row of a table of its own: what is long goes on below itself.
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=5)
    row.add_column(width=10)
    row.add_column(overflow="fold")
    text = Text(finding.text)
    if finding.remedy:
        text.append(f"\n{finding.remedy}", style="bold")
    row.add_row(Text(finding.verdict, style=_STYLES[finding.verdict]), finding.name, text)
    console.print(row)
