"""What a score is worth: 0 for the random agent's, 1 for the reference's.

Atari's reference is the human tester of the literature, MinAtar's the DQN of Young and Tian (2019)
after 5M steps. The numbers, each with its source, are in scores.yaml beside this file.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from sndqn.errors import ScoresError
from sndqn.files.plain_yaml import read_plain_yaml
from sndqn.study.bootstrap import Array, Scores

_TABLE = Path(__file__).with_name("scores.yaml")


@dataclass(frozen=True)
class Reference:
    """The two scores of a game that others are measured by.

    Attributes:
        random: Mean return of uniformly random actions.
        reference: Mean return of what counts as 1.
        name: What a score normalised so is called: `human-normalised`, `DQN-normalised`.
        who: Whose the reference's is.
        source: Where the numbers are from.
    """

    random: float
    reference: float
    name: str
    who: str
    source: str


@cache
def references() -> dict[str, Reference]:
    """Gives the reference of every game that has one, by the game's full name."""
    found = {}
    for name, table in read_plain_yaml(_TABLE).items():
        for game, (random, reference) in table["games"].items():
            found[game] = Reference(random, reference, name, table["reference"], table["source"])
    return found


def normalised(scores: Scores) -> dict[str, Array]:
    """Normalises the scores of an arm: (score - random) / (reference - random).

    Args:
        scores: For each game, by its full name, a number for each seed; or an array of any shape.

    Raises:
        ScoresError: A game has no reference.
    """
    missing = without_reference(scores)
    if missing:
        raise ScoresError(
            f"no reference score of {', '.join(missing)}: scores of several games can be averaged "
            "only where each has one (Atari and MinAtar)"
        )
    known = references()
    return {
        game: (np.asarray(values, dtype=np.float64) - known[game].random)
        / (known[game].reference - known[game].random)
        for game, values in scores.items()
    }


def without_reference(games: Iterable[str]) -> list[str]:
    """Gives those of the games, by their full names, that have no reference score."""
    known = references()
    return [game for game in games if game not in known]
