"""`sndqn sweep`: makes the runs of a study, all that are missing."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sndqn.cli.options import Parser, add_code, fail, make_console, use_code
from sndqn.cli.train import add_settings, keep_freed_memory, typed_value
from sndqn.console import clock, say
from sndqn.errors import RunInUseError

if TYPE_CHECKING:
    from rich.console import Console

    from sndqn.study.design import Design, StudyRun
    from sndqn.study.folder import Study
    from sndqn.study.work import Place

_DESCRIPTION = """\
Train a study: every arm on every game with every seed, as many at a time as there are cores.
An option of several values, such as --learning-rate 1e-4 1e-3, makes an arm of each; a comma stays
in a value. The same command again, or `sndqn sweep STUDY` alone, goes on where the last one ended.
"""
_OWN = ("runs_dir",)


def run(argv: Sequence[str]) -> None:
    """Makes what a study is missing."""
    parser = Parser(
        "sweep",
        _DESCRIPTION,
        usage="sndqn sweep STUDY [--study FILE | --env ENV ... --sn-layers LAYERS ...] [options]",
    )
    parser.add_argument("path", metavar="STUDY", help="the study's folder, new or not")
    parser.add_argument("--study", metavar="FILE", help="YAML file of a study: arms, grid, ...")
    parser.add_argument("--config", metavar="FILE", help="as of train; several values make arms")
    parser.add_argument(
        "--exclude",
        action="append",
        nargs="+",
        metavar="SETTING=VALUE",
        help="leave out the runs that have all these settings (repeatable)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list runs, steps and hours alone")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time (one for each core)")
    parser.add_argument(
        "--slurm",
        nargs="?",
        const="",
        metavar="OPTIONS",
        help="submit to Slurm, with options of sbatch: --slurm='--partition=gpu --time=8:00:00'",
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="make the runs on a Ray cluster, or auto")
    parser.add_argument(
        "--cpus-per-run", type=int, default=1, metavar="N", help="CPUs, for Slurm and Ray (1)"
    )
    parser.add_argument(
        "--gpus-per-run", type=float, default=0.0, metavar="F", help="GPUs, for Ray: 0.25 (0)"
    )
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="end when nothing is left to begin, though other processes still make runs",
    )
    parser.add_argument("--retry", action="store_true", help="try the runs that failed again")
    parser.add_argument("--run", metavar="NAME", help="make this run alone, in this process")
    add_code(parser)
    add_settings(parser, without=_OWN)
    rest, values = gather(argv, parser)
    arguments = parser.parse_args(rest)
    use_code(arguments.imports, arguments.wrappers)
    path = Path(arguments.path)
    if arguments.run is not None:
        _make_one(path, arguments.run)
        return
    _check(arguments)
    design = _design(arguments, values)
    console = make_console()
    study = _study(path, design, console, arguments)
    if arguments.dry_run:
        from sndqn.study.pool import n_cores

        _show_plan(study, arguments.jobs or n_cores(), console)
        return
    _make_all(study, arguments, console)


def gather(argv: Sequence[str], parser: Parser) -> tuple[list[str], dict[str, list[Any]]]:
    """Takes the options out of what was typed that may have several values.

    argparse takes a value such as -2,-3 for an option; here a value is what begins with no "--".

    Returns:
        The rest, and the values by the setting's name; those of a switch are true or false.
    """
    several = {
        option: action
        for action in parser._actions
        if action.dest in _setting_names()
        for option in action.option_strings
    }
    rest: list[str] = []
    values: dict[str, list[Any]] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        action = several.get(option)
        if action is None:
            rest.append(word)
            continue
        if isinstance(action, argparse.BooleanOptionalAction):
            found: list[Any] = [not option.startswith("--no-")]
        else:
            found = [value] if equals else []
            while not equals and words and not words[0].startswith("--") and words[0] != "-h":
                found.append(words.pop(0))
            if not found:
                parser.error(f"{option}: expected a value, or several with spaces between")
        known = values.setdefault(action.dest, [])
        known += [typed_value(action.dest, each) for each in found]
    return rest, values


def _setting_names() -> set[str]:
    from sndqn.training.settings import SETTINGS

    return {*SETTINGS, "config"} - {"imports", "wrappers", *_OWN}


def _check(arguments: argparse.Namespace) -> None:
    """Refuses numbers that are none of their options, and options that do not go together."""
    if arguments.jobs is not None and not 1 <= arguments.jobs <= 10_000:
        fail(f"--jobs: expected a number from 1 to 10000, found {arguments.jobs}")
    if arguments.cpus_per_run < 1 or arguments.gpus_per_run < 0:
        fail("--cpus-per-run, --gpus-per-run: expected 1 CPU or more, and GPUs from 0 up")
    if arguments.slurm is not None and arguments.ray is not None:
        fail("--slurm, --ray: expected one of them")
    if arguments.gpus_per_run and arguments.ray is None:
        fail("--gpus-per-run: belongs to --ray. Type --slurm='--gres=gpu:1' for Slurm")


def _design(arguments: argparse.Namespace, values: dict[str, list[Any]]) -> "Design | None":
    """Returns the design that was typed, or read; None to go on with what there is."""
    from sndqn.study.design import make_design, read_design, setting_values

    typed = [f"--{name.replace('_', '-')}" for name in values]
    typed += ["--exclude"] if arguments.exclude else []
    if arguments.study is not None:
        if typed:
            fail(f"--study: {arguments.study} has the study's settings: leave out {typed[0]}")
        return read_design(Path(arguments.study))
    if not typed:
        return None
    if "env" not in values:
        fail("--env: missing. Type --env NAME, such as --env MinAtar/Breakout MinAtar/Asterix")
    _use_code_of(values["env"])
    values = {name: [_number(name, each) for each in found] for name, found in values.items()}
    own: dict[str, Any] = {name: values.pop(name) for name in ("env", "seed") if name in values}
    shared = {name: found[0] for name, found in values.items() if len(found) == 1}
    content: dict[str, Any] = {
        "config": shared.pop("config", None),
        "settings": shared,
        **own,
        "grid": {name: found for name, found in values.items() if len(found) > 1},
        "exclude": [setting_values(words, "--exclude") for words in arguments.exclude or ()],
    }
    return make_design(content, "sweep")


def _number(name: str, value: Any) -> Any:
    """Reads a number, so that study.yaml has it as one."""
    from sndqn.training.settings import SETTINGS

    annotation = SETTINGS[name].annotation if name in SETTINGS else None
    takes = {annotation, *get_args(annotation)}
    if not isinstance(value, str) or not takes & {int, float}:
        return value
    try:
        return int(value) if int in takes else float(value)
    except ValueError:  # 1e6, 0..9, or no number
        return value


def _use_code_of(envs: Sequence[str]) -> None:
    """Imports the modules of names such as module:Id-v0."""
    from sndqn.training.config import make_config

    for env in envs:
        use_code(make_config({"env": env}).imports, option="--env")


def _study(
    path: Path, design: "Design | None", console: "Console", arguments: argparse.Namespace
) -> "Study":
    """Opens the study, or makes it; what cannot be trained is refused before it writes anything."""
    from sndqn.study.folder import Study, begin_study, make_study

    if design is None:
        return Study.open(path)
    if arguments.dry_run:
        return make_study(path, design)[0]
    elsewhere = arguments.slurm is not None or arguments.ray is not None
    # This machine may not have their GPUs.
    study, n_new = begin_study(path, design, "cpu" if elsewhere else None)
    if 0 < n_new < len(study.runs):
        say(console, f"{path}: {n_new} runs are added to the {len(study.runs) - n_new} there were")
    return study


def _show_plan(study: "Study", jobs: int, console: "Console") -> None:
    """Lists a study's runs, and the time they take."""
    from rich.table import Table

    from sndqn.study.trial import kinds, measure

    table = Table(box=None, pad_edge=False)
    for name in ("game", "arm", "seeds", "steps of a run", "done"):
        table.add_column(name, no_wrap=True)
    cells: dict[tuple[str, str], list[StudyRun]] = {}
    for each in study.runs:
        cells.setdefault((each.env, each.arm), []).append(each)
    todo = [each for each in study.runs if study.status(each) != "done"]
    names = {each.name for each in todo}
    for (env, arm), runs in cells.items():
        n_done = sum(each.name not in names for each in runs)
        steps = f"{runs[0].settings['total_timesteps']:,}"
        table.add_row(env, arm, str(len(runs)), steps, str(n_done))
    console.print(table)
    total = sum(each.settings["total_timesteps"] for each in todo)
    say(console, f"{len(study.runs)} runs, {len(todo)} to make, of {total:,} steps in all")
    seconds = 0.0
    for kind in kinds(todo):
        rate = measure(kind[0])
        seconds += sum(each.settings["total_timesteps"] for each in kind) / rate
        say(console, f"{kind[0].arm} on {kind[0].env}: {rate:,.0f} steps/s")
    say(
        console,
        f"{clock(seconds / jobs)} (hours:minutes:seconds) with --jobs {jobs}, if {jobs} at a time "
        "are each as fast as one. Measured on this machine just now, one after the other: some "
        "seconds of training of each kind of run after its first updates, evaluations left out",
    )


def _make_one(path: Path, name: str) -> None:
    """Makes one run in this process: what `sweep` starts for each."""
    from sndqn.study.attended import end_with_parent
    from sndqn.study.folder import Study
    from sndqn.study.work import IN_USE
    from sndqn.study.worker import make_run

    end_with_parent()
    keep_freed_memory()
    study = Study.open(path)
    try:
        make_run(study, study.find(name), make_console())
    except RunInUseError as error:
        print(f"sndqn: {error}", file=sys.stderr)
        raise SystemExit(IN_USE) from None


def _make_all(study: "Study", arguments: argparse.Namespace, console: "Console") -> None:
    """Makes what is missing, and says what failed."""
    from sndqn.study.board import Board
    from sndqn.study.pool import code_options
    from sndqn.study.work import Work

    if arguments.retry:
        study.forget_failures()
    code = code_options(arguments.imports or (), arguments.wrappers or ())
    if arguments.slurm is not None:
        from sndqn.study.slurm import submit

        for line in submit(study, arguments.slurm, arguments.jobs, arguments.cpus_per_run, code):
            say(console, line)
        return
    board = Board(study, console)
    place = _place(arguments, code)
    turn = int(os.environ.get("SLURM_ARRAY_TASK_ID", "1")) - 1
    failures = Work(study, place, board, not arguments.no_wait, turn).do()
    say(console, board.summary())
    for name, failure in failures.items():
        say(console, f"{name}: failed: {failure.message}", style="red")
        say(console, f"  {study.path / 'runs' / name / 'output.txt'} has its output")
    if failures:
        say(console, f"To try them again: sndqn sweep {study.path} --retry")
        raise SystemExit(1)
    say(console, f"Next: sndqn report {study.path}", style="bold")


def _place(arguments: argparse.Namespace, code: Sequence[str]) -> "Place":
    """Returns where runs are made: here, or on a Ray cluster."""
    if arguments.ray is not None:
        from sndqn.study.ray import RayCluster

        needs = {"num_cpus": arguments.cpus_per_run, "num_gpus": arguments.gpus_per_run}
        return RayCluster(arguments.ray, needs, arguments.jobs, code)
    from sndqn.study.pool import Pool, n_cores

    return Pool(arguments.jobs or n_cores(), code)
