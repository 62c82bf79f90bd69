"""One scale for the scores of several games."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sndqn.study.scores import normalised, references, without_reference

ScoresOfArms = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Scale:
    """What a scaled score is.

    Attributes:
        name: What to call one.
        about: What 0 and 1 are.
        ends: The range of all scores, for axes; None where they have none.
    """

    name: str
    about: str
    ends: tuple[float, float] | None

    @property
    def sentence(self) -> str:
        """What it is, as a sentence."""
        return f"{self.name[0].upper()}{self.name[1:]}: {self.about}."


def scaled(scores: ScoresOfArms) -> tuple[dict[str, dict[str, list[float]]], Scale]:
    """Puts the scores of all games on one scale.

    Of one game they stay as they are. Those of several are normalised by the references of Atari
    and MinAtar where every game has one. Otherwise from 0, the lowest
    run of any arm in a game, to 1, the highest: a scale that holds for these runs alone.

    Args:
        scores: By arm and game, a number a run.
    """
    games = sorted({env for arm in scores.values() for env in arm})
    if len(games) == 1:
        as_they_are = {
            arm: {env: list(values) for env, values in own.items()} for arm, own in scores.items()
        }
        return as_they_are, Scale("mean return", "of the final evaluation", None)
    if games and not without_reference(games):
        by_arm = {
            arm: {env: list(map(float, values)) for env, values in normalised(own).items()}
            for arm, own in scores.items()
        }
        return by_arm, by_reference(games)
    ends: dict[str, list[float]] = {}
    for own in scores.values():
        for env, values in own.items():
            ends.setdefault(env, []).extend(values)
    by_arm = {
        arm: {env: _within(values, ends[env]) for env, values in own.items()}
        for arm, own in scores.items()
    }
    return by_arm, Scale("scaled score", "0 is a game's lowest run here, 1 its highest", (0, 1))


def by_reference(games: Sequence[str]) -> Scale:
    """Returns the scale of scores that are normalised by the games' references."""
    known = [references()[game] for game in games]
    names = sorted({each.name for each in known})
    who = sorted({each.who for each in known})
    name = f"{names[0]}-normalised score" if len(names) == 1 else "normalised score"
    return Scale(name, f"0 is random play, 1 {' or '.join(who)}", None)


def _within(values: Sequence[float], every: Sequence[float]) -> list[float]:
    low, high = min(every), max(every)
    return [float(value) for value in (np.asarray(values) - low) / ((high - low) or 1.0)]
