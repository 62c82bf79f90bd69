"""What else the runs of stage B show, beside the measure that decides: for evidence_claims.py."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evidence_tables import interval, table, titled

from sndqn.study.curves import collapsed, sample_efficiency
from sndqn.study.scores import normalised, references
from sndqn.study.statistics import difference, interaction, mean

if TYPE_CHECKING:
    from evidence_claims import Study

PERCENTILE: dict[str, Any] = {"method": "percentile"}  # as the plan has it
MEASURES = {
    "last_tenth": "training, last 10 % (decides)",
    "all_steps": "training, all steps",
    "peak": "training, its maximum",
    "mean": "final evaluation",
}
HIDDEN, CONV = "features_extractor.linear.0", "features_extractor.cnn.0"  # HIDDEN is -2


def measures_table(study: "Study", games: Sequence[str]) -> str:
    """Gives SN's gain over all games, and the interaction, by each measure."""
    rows = []
    for measure, words in MEASURES.items():
        arms = {arm: normalised(study.scores(arm, games, measure)) for arm in study.arms}
        good, hot = ((arms[f"{corner}-sn-2"], arms[f"{corner}-none"]) for corner in ("good", "hot"))
        gains = (
            difference(*good, mean, **PERCENTILE),
            difference(*hot, mean, **PERCENTILE),
            interaction(*hot, *good, **PERCENTILE),
        )
        rows.append([words, *map(interval, gains)])
    return table(["measure", "gain, good", "gain, hot", "interaction"], rows)


def diagnostics_table(study: "Study", games: Sequence[str]) -> str:
    """Gives for each game and arm what was measured of the networks at the end of training."""
    rows = []
    for game in games:
        for arm in study.arms:
            layers = study.values(game, arm, "layers")
            networks = study.values(game, arm, "networks")
            columns = (
                [measured["sigma"][HIDDEN] for measured in layers],
                [measured["sigma_effective"][HIDDEN] for measured in layers],
                [measured["sigma"][CONV] for measured in layers],
                [measured["dormant_0.025"] for measured in networks],
                [measured["srank"] for measured in networks],
            )
            numbers = [f"{statistics.fmean(column):.3g}" for column in columns]
            rows.append([titled(game), arm, *numbers, broken_share(study, game, arm)])
    head = ["game", "arm", "σ(W), -2", "σ as it acts, -2", "σ, convolution", "dormant", "srank"]
    return table([*head, "ended low"], rows, "--rrrrrr")


def broken_share(study: "Study", game: str, arm: str) -> str:
    """Counts the runs that end below half their own peak, both above random play."""
    random = references()[game].random
    ends = [value - random for value in study.values(game, arm, "end")]
    peaks = [value - random for value in study.values(game, arm, "peak")]
    share = collapsed({game: ends}, {game: peaks}).value
    return f"{round(share * len(ends))} of {len(ends)}"


def draw_curves(study: "Study", path: Path) -> None:
    """Draws each arm's mean return in training over its seeds, and its 95 % interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colours = {"none": "#c0392b", "sn-2": "#1f6fb2"}
    games = study.games_of()
    figure, axes = plt.subplots(1, len(games), figsize=(11, 3.6), constrained_layout=True)
    for axis, game in zip(axes, games, strict=True):
        for arm in study.arms:
            corner, sn = arm.split("-", 1)
            curves = study.values(game, arm, "curve")
            points = [(c["timesteps"], c["mean_return"]) for c in curves]
            band = sample_efficiency({game: points}, mean, **PERCENTILE)
            label = f"{corner}, {'SN on -2' if sn == 'sn-2' else 'without SN'}"
            dashes = "-" if corner == "good" else "--"
            axis.plot(band.at / 1e6, band.value, dashes, color=colours[sn], lw=1.6, label=label)
            axis.fill_between(
                band.at / 1e6, band.low, band.high, color=colours[sn], alpha=0.15, lw=0
            )
        axis.set(title=titled(game), xlabel="million steps", ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("mean return of 100 training games")
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
