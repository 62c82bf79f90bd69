"""Measures how often the bootstrap's 95 % intervals hold what they are intervals of.

    python scripts/measure_coverage.py --output docs/data/coverage.json

Seeds are drawn from a population whose aggregate is known, both kinds of interval are made of the
same replicates, and counted if the population's aggregate lies in them. Populations: normal scores,
of a spread of 20 % about the levels 0.6 to 1.4 of the games; the same with each seed at 0 with a
chance of 10 %, as runs that collapse; and the hundred runs of SPR on five Atari games that
rliable's example data have.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from needs import need

from sndqn.study.bootstrap import Array, Method, Samples, ends_of, replicated, share_outside
from sndqn.study.scores import normalised
from sndqn.study.statistics import iqm, mean

RUNS = Path(__file__).parent.parent / "tests" / "study" / "data" / "atari_100k.json"
GAMES = ("Asterix", "Breakout", "Freeway", "Qbert", "Seaquest")
METHODS: tuple[Method, ...] = ("expanded", "percentile")
REPLICATES = 2000
Population = Callable[[np.random.Generator, str, int], Array]


def normal(rng: np.random.Generator, game: str, seeds: int) -> Array:
    level = float(np.linspace(0.6, 1.4, len(GAMES))[GAMES.index(game)])
    return rng.normal(level, 0.2 * level, seeds)


def collapsing(rng: np.random.Generator, game: str, seeds: int) -> Array:
    return np.where(rng.random(seeds) < 0.1, 0.0, normal(rng, game, seeds))


def spr() -> Population:
    runs = json.loads(RUNS.read_text())["SPR"]
    scores = normalised({game: runs[game] for game in GAMES})
    return lambda rng, game, seeds: rng.choice(scores[game], seeds)


def difference_of_iqm(first: Samples, second: Samples) -> Array:
    return iqm(first) - iqm(second)


STATISTICS = {"mean": (mean, 1), "IQM": (iqm, 1), "difference of IQM": (difference_of_iqm, 2)}


def coverage(
    population: Population, statistic: str, seeds: int, games: int, simulations: int
) -> dict[str, float]:
    """The share of simulations whose interval holds the population's value, by kind of interval."""
    function, arms = STATISTICS[statistic]
    # Of one game the middle one.
    chosen = GAMES if games == len(GAMES) else GAMES[2 : 2 + games]
    rng = np.random.default_rng(seeds)

    def drawn(count: int) -> list[dict[str, Array]]:
        return [{game: population(rng, game, count) for game in chosen} for _ in range(arms)]

    truth = 0.0 if arms == 2 else float(function(*drawn(1_000_000)))
    held = dict.fromkeys(METHODS, 0)
    for number in range(simulations):
        samples = drawn(seeds)
        replicates = replicated(function, samples, REPLICATES, number)
        for method in METHODS:
            low, high = ends_of(replicates, share_outside(samples, 0.95, method))
            held[method] += bool(low <= truth <= high)
    return {method: count / simulations for method, count in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the coverage of 95 % intervals.")
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    need(output=options.output)
    populations: dict[str, Population] = {"normal": normal, "collapsing": collapsing, "SPR": spr()}
    rows = []
    for name, population in populations.items():
        for games in (1, 5):
            for seeds in (3, 5, 10, 20):
                row = {"population": name, "games": games, "seeds": seeds}
                for statistic in STATISTICS:
                    row[statistic] = coverage(
                        population, statistic, seeds, games, options.simulations
                    )
                rows.append(row)
                print(row, flush=True)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "simulations": options.simulations,
        "replicates": REPLICATES,
        "standard_error": round(float(np.sqrt(0.05 * 0.95 / options.simulations)), 4),
        "rows": rows,
    }
    options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
