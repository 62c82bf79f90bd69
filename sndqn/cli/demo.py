"""`sndqn demo`: CartPole with and without SN, side by side, in about three minutes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sndqn.cli.options import Parser, fail, make_console
from sndqn.console import say

if TYPE_CHECKING:
    from rich.console import Console

    from sndqn.study.folder import Study

_ARMS = {"sn": {"sn_layers": "-2"}, "plain": {"sn_layers": "none"}}
_SEEDS = [0, 1]


def run(argv: Sequence[str]) -> None:
    """Trains a small study, writes its report, and films a game of each arm."""
    parser = Parser(
        "demo",
        "Train CartPole with and without SN, two seeds each, as `sndqn sweep` does; write the "
        "report of it and a clip of both at play. Three minutes on two free cores. Ctrl-C saves "
        "all, and the same command goes on.",
    )
    parser.add_argument(
        "--folder", default="sndqn-demo", metavar="FOLDER", help="where all goes (sndqn-demo)"
    )
    parser.add_argument(
        "--steps", type=int, default=40_000, metavar="N", help="of each training (40000)"
    )
    arguments = parser.parse_args(argv)
    if arguments.steps < 2_000:
        fail(f"--steps: expected 2000 or more, found {arguments.steps}")

    from sndqn.study.design import make_design
    from sndqn.study.folder import begin_study

    console, folder = make_console(), Path(arguments.folder)
    say(console, "CartPole with SN on the layer before the output, and without: 2 seeds each.")
    say(console, f"All goes to {folder}/, and Ctrl-C loses nothing.")
    settings = {"total_timesteps": arguments.steps, "eval_episodes": 20}
    values = {"env": "CartPole", "seed": _SEEDS, "settings": settings, "arms": _ARMS}
    study, _ = begin_study(folder, make_design(values, "demo"))
    try:
        _train(study, console)
    except KeyboardInterrupt:
        say(console, f"To go on: sndqn demo --folder {folder} --steps {arguments.steps}")
        raise
    _show(study, console)


def _train(study: "Study", console: "Console") -> None:
    """Makes the runs that are missing."""
    from sndqn.study.board import Board
    from sndqn.study.pool import Pool, n_cores
    from sndqn.study.work import Work

    failures = Work(study, Pool(n_cores()), Board(study, console)).do()
    for name, failure in failures.items():
        fail(f"{name}: {failure.message}. {study.path / 'runs' / name / 'output.txt'} has more")


def _show(study: "Study", console: "Console") -> None:
    """Says the scores, and writes the report and the clip."""
    from sndqn.cli import replay
    from sndqn.study.progress import read_progress
    from sndqn.study.report import write_report

    best = {}
    for arm in _ARMS:
        runs = [each for each in study.runs if each.arm == arm]
        found = {each.name: read_progress(study.folder(each)).mean_return or 0.0 for each in runs}
        best[arm] = max(found, key=found.__getitem__)
        scores = ", ".join(f"{value:.1f}" for value in found.values())
        say(console, f"{arm}: mean return {scores} (20 games each; 500 is the most)")
    say(console, "Two seeds prove nothing: docs/evidence has studies of enough of them.")
    page, _ = write_report([study.path])
    one, other = (str(study.path / "runs" / best[arm]) for arm in ("sn", "plain"))
    clip = study.path / "side-by-side.mp4"
    replay.run([one, "--side-by-side", other, "--values", "--output", str(clip)])
    say(console, f"Report: {page}", style="bold")
    say(console, f"Clip:   {clip}", style="bold")
    say(console, f"Agents: {one}", style="bold")
    say(console, f"Next: sndqn inspect {one}", style="bold")
