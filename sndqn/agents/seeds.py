"""What the seeds beside an agent's own scored: an agent that ships is one of a study's arm."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SEEDS_FILE = "seeds.json"


@dataclass(frozen=True)
class SeedScores:
    """The scores of an arm's seeds on one game.

    Attributes:
        study: The study's name.
        arm: The arm's.
        scores: Mean return of each seed's evaluation, by seed.
    """

    study: str
    arm: str
    scores: Mapping[int, float]

    @property
    def median_seed(self) -> int:
        """The seed of the median score; of the two in the middle the lower one."""
        ordered = sorted(self.scores, key=lambda seed: (self.scores[seed], seed))
        return ordered[(len(ordered) - 1) // 2]

    @property
    def summary(self) -> str:
        """Says mean, spread and every score: "231.4 ± 12.0 over 3 seeds (219, 232.1, 243)"."""
        values = sorted(self.scores.values())
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        each = ", ".join(f"{value:.1f}" for value in values)
        count = "1 seed" if len(values) == 1 else f"{len(values)} seeds"
        return f"{statistics.fmean(values):.1f}{spread} over {count} ({each})"

    @property
    def place(self) -> str:
        """Says which of the seeds ships."""
        return "the median" if len(self.scores) > 1 else "the only one so far"

    def to_json(self) -> dict[str, Any]:
        """Returns what `SEEDS_FILE` holds."""
        by_seed = {str(seed): score for seed, score in sorted(self.scores.items())}
        return {"study": self.study, "arm": self.arm, "scores": by_seed}
