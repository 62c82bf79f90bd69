"""`sndqn tune`: searches an arm's best settings, and says how many do nearly as well."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sndqn.cli.options import Parser, add_code, fail, make_console, use_code
from sndqn.cli.sweep import gather
from sndqn.cli.train import add_settings
from sndqn.console import say

if TYPE_CHECKING:
    from rich.console import Console

    from sndqn.study.tuning import TuningFolder

_DESCRIPTION = """\
Search the best settings by Optuna, for each arm by itself: --sn-layers none -2 makes two. The
first trials are drawn at random and measure how tolerant an arm is; the others follow what was
found. The best settings are trained again on fresh seeds. The same command again, or `sndqn tune
TUNING` alone, goes on where the last one ended.
"""


def run(argv: Sequence[str]) -> None:
    """Makes what a tuning is missing, and says what came of it."""
    parser = Parser(
        "tune",
        _DESCRIPTION,
        usage="sndqn tune TUNING --env ENV --search SETTING LOW..HIGH [options]",
    )
    parser.add_argument("path", metavar="TUNING", help="the tuning's folder, new or not")
    parser.add_argument("--file", metavar="FILE", help="YAML file of a tuning, as its tune.yaml")
    parser.add_argument("--config", metavar="FILE", help="as of train")
    parser.add_argument(
        "--search",
        action="append",
        nargs="+",
        metavar="SETTING",
        help="a setting, and a range such as 1e-5..1e-2, on a log scale if tenfold or more, or "
        "several values (repeatable)",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="of each arm (20)")
    parser.add_argument(
        "--random-trials", type=int, metavar="N", help="of them drawn at random (10)"
    )
    parser.add_argument(
        "--fresh-seed", metavar="SEEDS", help="seeds to train the best on again (1000..1004)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="trials at a time (one a core)")
    add_code(parser)
    add_settings(parser, without=("runs_dir",))
    rest, values = gather(argv, parser)
    arguments = parser.parse_args(_join_search(rest))
    use_code(arguments.imports, arguments.wrappers)
    from sndqn.study.pool import n_cores

    jobs = n_cores() if arguments.jobs is None else arguments.jobs
    if not 1 <= jobs <= 1024:
        fail(f"--jobs: expected a number from 1 to 1024, found {jobs}")
    _tune(_folder(arguments, values), jobs, arguments, make_console())


def _join_search(words: Sequence[str]) -> list[str]:
    """Writes a value such as -2 after --search so that argparse does not take it for an option."""
    joined: list[str] = []
    in_search = False
    for word in words:
        in_search = word == "--search" or (in_search and not word.startswith("--"))
        joined.append(
            f" {word}" if in_search and word.startswith("-") and word != "--search" else word
        )
    return joined


def _folder(arguments: argparse.Namespace, values: dict[str, list[Any]]) -> "TuningFolder":
    """Opens the tuning, or makes it of what was typed."""
    from sndqn.files.plain_yaml import read_plain_yaml
    from sndqn.study.tuning import TuningFolder, make_tuning
    from sndqn.training.labels import setting_label

    path = Path(arguments.path)
    own = {
        "trials": arguments.trials,
        "random_trials": arguments.random_trials,
        "fresh_seed": arguments.fresh_seed,
    }
    own = {name: value for name, value in own.items() if value is not None}
    typed = [*values, *own, *(["search"] if arguments.search else [])]
    if arguments.file is not None:
        if typed:
            fail(f"--file: {arguments.file} has the settings: leave out --{typed[0]}")
        content = read_plain_yaml(Path(arguments.file))
        return TuningFolder.make(path, make_tuning(content, arguments.file))
    if not typed:
        return TuningFolder.open(path)
    if len(values.get("env", [])) != 1:
        fail("--env: expected one environment to tune on, such as --env MinAtar/Breakout")
    if not arguments.search:
        fail("--search: missing. Type what to search, such as --search learning_rate 1e-5..1e-2")
    several = [name for name, found in values.items() if len(found) > 1 and name != "seed"]
    if len(several) > 1:
        fail(
            f"--{several[1].replace('_', '-')}: expected arms of one option, found two: "
            "search one of them, or write arms in a file"
        )
    content = {
        **own,
        **({"config": values.pop("config")[0]} if "config" in values else {}),
        "env": values.pop("env")[0],
        **({"seed": values.pop("seed")} if "seed" in values else {}),
        "arms": {
            setting_label(name, value): {name: value}
            for name in several
            for value in values.pop(name)
        },
        "settings": {name: found[0] for name, found in values.items()},
        "search": {_searched(words): words[1:] for words in arguments.search},
    }
    return TuningFolder.make(path, make_tuning(content, "tune"))


def _searched(words: list[str]) -> str:
    words[1:] = [word.strip() for word in words[1:]]
    return words[0].lstrip("-").replace("-", "_")


def _tune(
    folder: "TuningFolder", jobs: int, arguments: argparse.Namespace, console: "Console"
) -> None:
    """Makes the trials, trains the best again, and says what came of it."""
    from sndqn.study.board import Board
    from sndqn.study.pool import Pool
    from sndqn.study.tuned import best_of
    from sndqn.study.tuner import Tuner
    from sndqn.study.work import Work

    code = [word for module in arguments.imports or () for word in ("--import", module)]
    code += [word for name in arguments.wrappers or () for word in ("--wrapper", name)]
    Tuner(folder, jobs, console, code).work()
    best = best_of(folder)
    for arm, tuned in best.items():
        file = folder.write_best(arm, tuned.points)
        say(console, f"{arm}: best {tuned.score:.6g} of {tuned.tried[0]} trials: {file}")
    study = folder.best_study({arm: tuned.points for arm, tuned in best.items()})
    failures = Work(study, Pool(jobs, code), Board(study, console)).do()
    if failures:
        fail(f"{study.path}: {len(failures)} runs failed: sndqn sweep {study.path} --retry")
    _say_result(folder, console)


def _say_result(folder: "TuningFolder", console: "Console") -> None:
    """Shows a table: each arm's best settings, its score on fresh seeds, its tolerance."""
    from rich.table import Table

    from sndqn.errors import SndqnError
    from sndqn.study.tuned import best_of, fresh_score, tolerances_of

    best = best_of(folder)
    study = folder.best_study({arm: tuned.points for arm, tuned in best.items()})
    try:
        tolerances = tolerances_of(folder)
    except SndqnError as error:
        tolerances = {}
        say(console, f"No tolerance: {error}", style="yellow")
    table = Table(box=None, pad_edge=False)
    for name in ("arm", "best settings", "found", "on fresh seeds", "tolerance", "of all arms'"):
        table.add_column(name)
    for arm, tuned in best.items():
        settings = ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in tuned.points.items()
        )
        found = tolerances.get(arm)
        shares = ["", ""] if found is None else [_shown(found.own, 2), _shown(found.common, 2)]
        table.add_row(
            arm, settings, f"{tuned.score:.4g}", _shown(fresh_score(study, arm), 4), *shares
        )
    console.print(table)
    say(
        console,
        "found: mean return, the highest of many trials, so too high. on fresh seeds: mean return "
        "of the same settings. tolerance: share of the settings drawn at random that reach 90 % of "
        "the arm's best, and of the best of all arms. In brackets: 95 % intervals",
    )
    say(console, f"Next: sndqn report {study.path}", style="bold")


def _shown(estimate: Any, digits: int) -> str:
    if estimate.low is None:
        return f"{estimate.value:.{digits}g}"
    return f"{estimate.value:.{digits}g} [{estimate.low:.{digits}g}, {estimate.high:.{digits}g}]"
