"""What the runs of stages B and C say of their hypotheses, for scripts/evidence_page.py."""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evidence_details import HIDDEN, PERCENTILE, diagnostics_table, measures_table
from evidence_tables import interval, spread, table, titled

from sndqn.study.bootstrap import estimate
from sndqn.study.report.words import p_words
from sndqn.study.scores import normalised
from sndqn.study.significance import holm, permutation_tests
from sndqn.study.statistics import difference, interaction, mean

GAMES = ("MinAtar/Breakout", "MinAtar/Asterix", "MinAtar/SpaceInvaders")
STAGE_B_SEEDS, STAGE_C_SEEDS = 10, 5
STAGE_B_ARMS = ("good-none", "good-sn-2", "hot-none", "hot-sn-2")
STAGE_C_ARMS = ("none", "torch-sn", "sndqn-sn")
BROKEN_SIGMA = 2.0  # H7: the target's σ after a sync, above which SN is broken

STAGE_B = """Arms: learning rate 2.15e-4 and ε 3.2e-4 (good), 1e-3 and 1e-4 (hot), each with SN on
-2 and without; else `minatar/dqn-adam`, 1M steps. Score: training's return over the last 10 % of
the steps, mean ± standard deviation over seeds, and their number; in the last row the mean over
games, normalised so that random play is 0 and the published DQN at 5M steps 1, and its 95 %
interval. [Data](stage-b.json),
[design](stage-b.yaml).

{scores}

What SN gains, normalised in the same way, with 95 % intervals; p of a permutation test, Holm over
the {tests} of them.

{gains}

{interaction}

![Mean return in training of each arm, by game, with 95 % intervals](stage-b.png)

The same over all games by other measures, which decide nothing:

{measures}

At the end of training, means over seeds: the norm σ of layer -2's weight and of that layer as it
acts, of the convolution; the share of dormant units (score at most 0.025); srank, the number of
singular values that hold 99 % of the features; and how many runs ended below half their own peak.

{diagnostics}"""

STAGE_C = """Stable-Baselines3's own DQN with torch's `spectral_norm` on the layer before the
output, with sndqn's policy, and with neither; 300k steps. Score as in stage B. σ is the most that
the target network's normalised layer had right after a sync: the highest of the seeds, and the
lowest. [Data](stage-c.json), by `python scripts/stock_sb3.py`.

{scores}"""


class Claim(NamedTuple):
    """A hypothesis's verdict and the section behind it."""

    verdict: str
    section: str


class Study:
    """The runs of one stage.

    Args:
        path: Its JSON, which may be missing.
        arms: Of the plan.
        seeds: Of the plan, for each game and arm.
    """

    def __init__(self, path: Path, arms: Sequence[str], seeds: int) -> None:
        self.runs: list[dict[str, Any]] = (
            json.loads(path.read_text())["runs"] if path.is_file() else []
        )
        self.arms = arms
        self.planned = len(GAMES) * len(arms) * seeds

    @property
    def complete(self) -> bool:
        """Whether every run of the plan is there."""
        return len(self.runs) == self.planned

    @property
    def open_words(self) -> str:
        """Says how far a stage is that is not complete."""
        return f"open: {len(self.runs)} of {self.planned} runs" if self.runs else "no runs yet"

    def values(self, game: str, arm: str, measure: str = "last_tenth") -> list[Any]:
        """Gives a measure of an arm's seeds on a game, in their order."""
        found = [run for run in self.runs if (run["env"], run["arm"]) == (game, arm)]
        return [run[measure] for run in sorted(found, key=lambda run: run["seed"])]

    def scores(
        self, arm: str, games: Iterable[str], measure: str = "last_tenth"
    ) -> dict[str, list[float]]:
        """Gives a measure of an arm's seeds on each game."""
        return {game: self.values(game, arm, measure) for game in games}

    def games_of(self, least: int = 2) -> list[str]:
        """Gives the games on which every arm has so many seeds."""
        return [
            game for game in GAMES if all(len(self.values(game, a)) >= least for a in self.arms)
        ]


def study_b(folder: Path) -> Study:
    """Gives the runs of stage B."""
    return Study(folder / "stage-b.json", STAGE_B_ARMS, STAGE_B_SEEDS)


def stage_b(folder: Path) -> Claim:
    """Judges H1: does SN gain more where learning rate and ε are hot?"""
    study = study_b(folder)
    games = study.games_of()
    if not games:
        return Claim(study.open_words, f"{study.open_words.capitalize()}.")
    arms = {arm: normalised(study.scores(arm, games)) for arm in STAGE_B_ARMS}
    p = holm(
        {
            (corner, game): test.p
            for corner in ("good", "hot")
            for game, test in permutation_tests(
                arms[f"{corner}-sn-2"], arms[f"{corner}-none"]
            ).items()
        }
    )
    rows = []
    for game in games:
        row = [titled(game)]
        for corner in ("good", "hot"):
            with_sn = {game: arms[f"{corner}-sn-2"][game]}
            without = {game: arms[f"{corner}-none"][game]}
            gain = difference(with_sn, without, mean, **PERCENTILE)
            row += [interval(gain), p_words(p[corner, game])]
        rows.append(row)
    whole = interaction(
        arms["hot-sn-2"], arms["hot-none"], arms["good-sn-2"], arms["good-none"], **PERCENTILE
    )
    words = f"Interaction, the gain at hot less the gain at good: {interval(whole)}"
    if study.complete:
        verdict = "supported" if whole.low is not None and whole.low > 0 else "refuted"
        verdict = f"{verdict}: interaction {interval(whole)}"
    else:
        verdict = study.open_words
        words += f", of {len(study.runs)} of {study.planned} runs; no verdict before all are there"
    section = STAGE_B.format(
        scores=table(
            ["game", *STAGE_B_ARMS],
            [
                *(
                    [titled(game), *(spread(study.values(game, arm)) for arm in STAGE_B_ARMS)]
                    for game in games
                ),
                [
                    "all, normalised",
                    *(interval(estimate(mean, a, **PERCENTILE)) for a in arms.values()),
                ],
            ],
        ),
        tests=len(p),
        gains=table(["game", "gain, good", "p", "gain, hot", "p"], rows),
        interaction=f"{words}.",
        measures=measures_table(study, games),
        diagnostics=diagnostics_table(study, games),
    )
    return Claim(verdict, section)


def stage_c(folder: Path) -> Claim:
    """Judges H7: is torch's SN inside stock Stable-Baselines3 broken in every game?"""
    study = Study(folder / "stage-c.json", STAGE_C_ARMS, STAGE_C_SEEDS)
    games = study.games_of(1)
    if not games:
        return Claim(study.open_words, f"{study.open_words.capitalize()}.")
    rows, broken = [], []
    for game in games:
        means = {arm: statistics.fmean(study.values(game, arm)) for arm in STAGE_C_ARMS}
        sigma = {
            arm: [
                peaks["target_sigma_after_sync"][HIDDEN]
                for peaks in study.values(game, arm, "layer_peaks")
            ]
            for arm in STAGE_C_ARMS[1:]
        }
        broken.append(
            min(sigma["torch-sn"]) > BROKEN_SIGMA
            and means["torch-sn"] < min(means["sndqn-sn"], means["none"])
        )
        rows.append(
            [
                titled(game),
                *(spread(study.values(game, arm)) for arm in STAGE_C_ARMS),
                *(f"{max(values):.3g}, {min(values):.3g}" for values in sigma.values()),
            ]
        )
    verdict = study.open_words
    if study.complete:
        words = f"in {sum(broken)} of {len(games)} games"
        verdict = f"supported: {words}" if all(broken) else f"refuted: {words} only"
    head = ["game", *STAGE_C_ARMS, "σ of torch-sn", "σ of sndqn-sn"]
    return Claim(verdict, STAGE_C.format(scores=table(head, rows)))
