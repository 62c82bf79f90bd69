"""Writes docs/evidence/README.md from the committed results; no number on that page is typed.

    python scripts/evidence_page.py

What is judged, and by which rule, is in docs/evidence/plan.md.
"""

import argparse
import itertools
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evidence_claims import stage_b, stage_c, study_b
from evidence_details import draw_curves
from evidence_tables import table, titled
from needs import need

EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence"
SEEDS_FOR_A_VERDICT = 3
OPEN = "open: fewer than 3 seeds"
GAMES_IN_A_MEAN = 100  # of the moving average in a curve
HYPOTHESES = {
    "H1": "SN's gain is larger at a hot learning rate and ε than at a good one",
    "H2": "SN widens the usable area of learning rate x ε",
    "H3": "spectral schedulers recover SN",
    "H4": "-2 is the best layer, all layers hurt",
    "H5": "the schedule matters, not the smaller initial weight",
    "H6": "SN acts through Adam's ε in layer -2",
    "H7": "torch's SN inside stock Stable-Baselines3 is broken in every game",
}
PAGE = """# Evidence

Does SN do in our hands what its paper says? The [plan](plan.md) was committed before the runs; it
was [changed](plan.md#changes) once, so that stage B need not wait for stage A's verdict. This page
is written by `python scripts/evidence_page.py` from the JSON beside it.

{hypotheses}

## Stage A: do the published curves come out?

{summary}

Training's return: on MinAtar (`young-tian`) over the last 10 % of 1M steps, on Atari
(`dopamine-dqn-adam`) of the games that end in the last 250k of 1M steps. Published: mean ± 95 % of
what is known of its error.

{levels}

On the way: the moving average over 100 games of training, published / mean of ours. Last, our own
final evaluation.

{curves}

Each run's file holds its settings, provenance, curve, and the return of every game of its
evaluation.

{runs}

## Stage B: does SN gain more where learning rate and ε are hot?

{stage_b}

## Stage C: is torch's one line broken inside Stable-Baselines3?

{stage_c}

## Not tested

The paper's headline, C51 with SN above Rainbow on Atari: it shows after 10M steps a run, and needs
a GPU.

## Sources

[`published.json`](published.json), from:

- {minatar}.
- {dopamine}.
"""


class Published(NamedTuple):
    """A published score.

    Attributes:
        mean: Over its runs.
        spread: Standard deviation over them.
        runs: Their number.
        reading_error: By how much reading it off a figure may miss.
        least_spread: What ours counts as at least.
    """

    mean: float
    spread: float
    runs: int
    reading_error: float = 0.0
    least_spread: float = 0.0


class Verdict(NamedTuple):
    """How far our mean is from the published one, how far it may be, and what follows."""

    difference: float
    allowed: float
    words: str


def published_of(game: str, published: dict[str, Any]) -> Published:
    """Gives the published score of what stage A measures on a game."""
    minatar = published["minatar"]
    if game in minatar["games"]:
        found = minatar["games"][game]
        mean, spread = found["last_tenth"], minatar["seed_sd_share"] * found["last_tenth"]
        return Published(mean, spread, minatar["runs"], found["reading_error"], spread)
    runs = published["dopamine"]["games"][game]["mean_returns"][-1]
    return Published(statistics.fmean(runs), statistics.stdev(runs), len(runs))


def judged(levels: Sequence[float], published: Published) -> Verdict:
    """Applies stage A's rule to the levels of our seeds, at least two."""
    ours = max(statistics.stdev(levels), published.least_spread)
    variances = (ours**2 / len(levels), published.spread**2 / published.runs)
    allowed = 2.5 * math.sqrt(sum(variances) + published.reading_error**2)
    difference = statistics.fmean(levels) - published.mean
    if len(levels) < SEEDS_FOR_A_VERDICT:
        return Verdict(difference, allowed, OPEN)
    return Verdict(difference, allowed, "passes" if abs(difference) < allowed else "fails")


def level(run: dict[str, Any]) -> float:
    """Gives what stage A measures of a run."""
    measure = last_tenth if run["env"].startswith("MinAtar/") else last_quarter_by_games
    return measure(run["curve"], run["settings"]["total_timesteps"])


def last_tenth(curve: dict[str, list[float]], total: int) -> float:
    """Gives the mean of a curve over the last tenth of the steps."""
    points = dict(zip(curve["timesteps"], curve["mean_return"], strict=True))  # each step once
    return statistics.fmean(value for step, value in points.items() if step > 0.9 * total)


def last_quarter_by_games(curve: dict[str, list[float]], total: int) -> float:
    """Gives the mean return of the games of the last quarter, which count alike, short or long.

    A point of the curve is a mean over 100 games; those taken have no game in common.
    """
    steps, games = curve["timesteps"], curve["games"]
    taken: list[float] = []
    index = len(steps) - 1
    while True:
        before = [i for i in range(index) if games[i] <= games[index] - GAMES_IN_A_MEAN]
        if not before or (taken and steps[before[-1]] < 0.75 * total):
            return statistics.fmean(taken)
        taken.append(curve["mean_return"][index])
        index = before[-1]


def value_at(curve: dict[str, list[float]], step: int) -> float:
    """Gives a curve's value at a step, on the line between the points about it."""
    points = zip(curve["timesteps"], curve["mean_return"], strict=True)
    for (before, low), (after, high) in itertools.pairwise(points):
        if before <= step <= after:
            return low + (high - low) * (step - before) / (after - before)
    return math.nan


def page(evidence: Path = EVIDENCE) -> str:
    """Gives the page's text, from the files in a folder."""
    published = json.loads((evidence / "published.json").read_text())
    results = [json.loads(path.read_text()) for path in (evidence / "stage-a").glob("*.json")]
    games = [*published["minatar"]["games"], *published["dopamine"]["games"]]
    runs = {
        game: sorted((r for r in results if r["env"] == game), key=lambda r: r["seed"])
        for game in games
    }
    levels, verdicts = level_rows(runs, published)
    n_seeds = len(levels[0]) - 6
    seeds = [f"seed {seed}" for seed in range(n_seeds)]
    head = ["game", "published", *seeds, "our mean", "difference", "allowed", "verdict"]
    claims = {"H1": stage_b(evidence), "H7": stage_c(evidence)}
    verdicts_of = {name: claim.verdict for name, claim in claims.items()}
    return PAGE.format(
        hypotheses=table(
            ["", "hypothesis", "verdict"],
            [
                [name, words, verdicts_of.get(name, "no runs yet")]
                for name, words in HYPOTHESES.items()
            ],
            "---",
        ),
        stage_b=claims["H1"].section,
        stage_c=claims["H7"].section,
        summary=summary(verdicts),
        levels=table(head, levels, "-" + "r" * (n_seeds + 4) + "-"),
        curves=table(*curve_rows(runs, published), "-rrrrr"),
        runs=table(["run", "minutes", "commit", "command"], run_rows(runs), "-r--"),
        minatar=published["minatar"]["source"],
        dopamine=published["dopamine"]["source"],
    )


def level_rows(
    runs: dict[str, list[dict[str, Any]]], published: dict[str, Any]
) -> tuple[list[list[str]], list[str]]:
    """Gives a row for each game, all seeds in it, and the verdicts."""
    n_seeds = max([SEEDS_FOR_A_VERDICT, *(r["seed"] + 1 for found in runs.values() for r in found)])
    rows, verdicts = [], []
    for game, found in runs.items():
        target = published_of(game, published)
        levels = {run["seed"]: level(run) for run in found}
        verdict = Verdict(math.nan, math.nan, OPEN)
        if len(levels) > 1:
            verdict = judged(list(levels.values()), target)
        error = 1.96 * math.hypot(target.spread / math.sqrt(target.runs), target.reading_error)
        digits = 0 if target.mean >= 100 else 2
        ours = [levels.get(seed, math.nan) for seed in range(n_seeds)]
        mean = statistics.fmean(levels.values()) if levels else math.nan
        numbers = [written(x, digits) for x in (*ours, mean, verdict.difference, verdict.allowed)]
        score = f"{target.mean:.{digits}f} ± {error:.{digits}f}"
        rows.append([titled(game), score, *numbers, verdict.words])
        verdicts.append(verdict.words)
    return rows, verdicts


def curve_rows(
    runs: dict[str, list[dict[str, Any]]], published: dict[str, Any]
) -> tuple[list[str], list[list[str]]]:
    """Gives the head and a row for each game of MinAtar: points of its curves, our evaluation."""
    steps = (250_000, 500_000, 750_000, 1_000_000)
    rows = []
    for game, found in published["minatar"]["games"].items():
        row = [titled(game)]
        for step in steps:
            ours = [value_at(run["curve"], step) for run in runs[game]]
            mean = statistics.fmean(ours) if ours else math.nan
            row.append(f"{written(value_at(found['curve'], step))} / {written(mean) or '-'}")
        returns = [value for run in runs[game] for value in run["evaluation"]["returns"]]
        epsilons = {run["evaluation"]["protocol"]["epsilon"] for run in runs[game]}
        words = f"{len(returns)} games, ε {', '.join(map(str, sorted(epsilons)))}"
        row.append(f"{written(statistics.fmean(returns))} ({words})" if returns else "")
        rows.append(row)
    return ["game", *(f"{step // 1000}k" for step in steps), "evaluation"], rows


def run_rows(runs: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Gives a row for each run: its file, time, commit and command."""
    rows = []
    for run in itertools.chain.from_iterable(runs.values()):
        game = run["env"] if "/" in run["env"] else f"atari/{run['env']}"
        name = f"{game.lower().replace('/', '-')}-seed{run['seed']}"
        minutes = f"{run['seconds'] / 60:.0f}"
        file = f"[{name}](stage-a/{name}.json)"
        rows.append([file, minutes, f"`{run['commit'][:7]}`", f"`{run['command']}`"])
    return rows


def summary(verdicts: list[str]) -> str:
    """Says in a sentence how stage A stands."""
    passed, failed = verdicts.count("passes"), verdicts.count("fails")
    if passed == len(verdicts):
        return f"Stage A passes: all {passed} games do."
    rest = len(verdicts) - passed - failed
    return f"Of {len(verdicts)} games {passed} pass, {failed} fail, {rest} are open."


def written(value: float, digits: int = 2) -> str:
    """Writes a score, and nothing for none."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def main() -> None:
    """Writes the page, and beside it the figure of stage B's curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=EVIDENCE / "README.md")
    output = parser.parse_args().output
    need("matplotlib")
    output.write_text(page())
    draw_curves(study_b(EVIDENCE), output.parent / "stage-b.png")


if __name__ == "__main__":
    main()
