"""`sndqn report`: one page that says what runs show, and its figures."""

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sndqn.cli.options import Parser, make_console
from sndqn.console import say
from sndqn.errors import ConfigError

if TYPE_CHECKING:
    from sndqn.study.results import Results


def run(argv: Sequence[str]) -> None:
    """Writes the report of studies and runs."""
    description = (
        "Write one HTML page that opens from a disk or a mail: which arm is better, by how much, "
        "how surely, on which game."
    )
    parser = Parser("report", description)
    parser.add_argument(
        "path", nargs="+", help="folder of a study, of a run, or with runs in it; several are one"
    )
    parser.add_argument(
        "--output",
        metavar="PLACE",
        help="the page, such as layers.html, or a folder (the only path's own, or here)",
    )
    parser.add_argument(
        "--format",
        default="html",
        metavar="NAMES",
        help="of html, pdf, png and csv some, with commas between; figures go beside the page "
        "(html)",
    )
    parser.add_argument(
        "--baseline", metavar="ARM", help="what arms are compared with (the first without SN)"
    )
    parser.add_argument(
        "--live", action="store_true", help="write the page again and again while runs go on"
    )
    parser.add_argument(
        "--every", type=int, metavar="SECONDS", help="between two pages of --live (30)"
    )
    arguments = parser.parse_args(argv)
    if arguments.every is not None and not arguments.live:
        raise ConfigError("--every: belongs to --live: type both, or neither")
    if arguments.every is not None and not 1 <= arguments.every <= 86_400:
        raise ConfigError(f"--every: expected seconds from 1 to 86400, found {arguments.every}")
    how: dict[str, Any] = {
        "output": arguments.output,
        "formats": [name.strip() for name in arguments.format.split(",") if name.strip()],
        "baseline": arguments.baseline,
    }
    if arguments.live:
        _live(arguments, how)
        return
    from sndqn.study.report import write_report

    place, results = write_report(arguments.path, **how)
    console = make_console()
    for path, reason in results.unreadable:
        say(console, f"Left out, not readable: {path}: {reason}", style="yellow")
    say(console, f"{len(results.runs)} {'run' if len(results.runs) == 1 else 'runs'}: {place}")


def _live(arguments: argparse.Namespace, how: dict[str, Any]) -> None:
    """Writes the page until all runs are over, or Ctrl-C; the last one does not reload itself."""
    from sndqn.study.report import write_report

    console, every = make_console(), arguments.every or 30
    results = None
    try:
        while True:
            place, results = write_report(arguments.path, **how, refresh=every, known=results)
            say(console, f"{time.strftime('%H:%M:%S')} {place}: {_so_far(results)}")
            if _is_over(results):
                break
            time.sleep(every)
    except KeyboardInterrupt:
        say(console, "Stopped; the page stays as it is now")
    write_report(arguments.path, **how, known=results)


def _is_over(results: "Results") -> bool:
    return not results.waiting and all(run.status != "running" for run in results.runs)


def _so_far(results: "Results") -> str:
    done = sum(run.status == "done" for run in results.runs)
    return f"{done} of {len(results.runs) + results.waiting} runs done"
