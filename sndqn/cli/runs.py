"""`sndqn runs`: lists the runs of a study, or of a folder, and how far each is."""

from collections.abc import Sequence
from pathlib import Path

from sndqn.cli.options import Parser, make_console
from sndqn.cli.results import add_json, print_json
from sndqn.console import say
from sndqn.runs.folder import default_runs_dir


def run(argv: Sequence[str]) -> None:
    """Lists runs."""
    parser = Parser("runs", "List the runs of a study or of a folder, and how far each is.")
    parser.add_argument(
        "path",
        metavar="STUDY",
        nargs="?",
        default=default_runs_dir(),
        help="a study, or a folder with runs in it (SNDQN_RUNS_DIR, or runs)",
    )
    parser.add_argument(
        "--where",
        action="extend",
        nargs="+",
        default=[],
        metavar="SETTING=VALUE",
        help="only runs with these settings; also arm, status and name",
    )
    add_json(parser)
    arguments = parser.parse_args(argv)

    from sndqn.study.design import setting_values
    from sndqn.study.listing import ListedRun, list_runs

    wanted = setting_values(arguments.where, "--where")
    found = list_runs(Path(arguments.path), wanted)
    if arguments.json:
        print_json({"runs": [each.to_json() for each in found]})
        return

    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("status", no_wrap=True)
    for name in ("steps", "steps/s", "return"):
        table.add_column(name, justify="right", no_wrap=True)

    def row(each: ListedRun) -> list[str | Text]:
        progress, total = each.progress, each.settings["total_timesteps"]
        rate = "" if progress.rate is None else f"{progress.rate:,.0f}"
        mean = "" if progress.mean_return is None else f"{progress.mean_return:.1f}"
        return [Text(each.name), each.status, f"{progress.step:,}/{total:,}", rate, mean]

    for each in found:
        table.add_row(*row(each))
    console = make_console()
    console.print(table)
    for each in found:
        if each.failure:
            say(console, f"{each.name}: {each.failure}", style="red")
    counts: dict[str, int] = {}
    for each in found:
        counts[each.status] = counts.get(each.status, 0) + 1
    say(console, ", ".join(f"{n} {status}" for status, n in counts.items()) or "No such runs")
