"""What a reader learns in a minute: which arm is better, by how much, how surely, on which game."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sndqn.study.bootstrap import Estimate
from sndqn.study.report.charts import number
from sndqn.study.report.compare import ArmComparison, Comparison, Finding, GameComparison
from sndqn.study.report.words import few_seeds, joined, p_equals, seeds_words
from sndqn.study.results import Results


@dataclass(frozen=True)
class Verdict:
    """The answer, at the top of the page.

    Attributes:
        finding: In a word, of the arm that gains most; None where nothing is compared.
        sentence: The answer.
        details: What it rests on, a sentence each.
    """

    finding: Finding | None
    sentence: str
    details: tuple[str, ...] = ()


def verdict(results: Results, comparison: Comparison) -> Verdict:
    """Says what the runs show, and no more."""
    if comparison.arms:
        return _compared(comparison)
    done = [run for run in results.runs if run.score is not None]
    if not done:
        return Verdict(
            None, "No run is finished yet: nothing can be compared.", _under_way(results)
        )
    if len(done) == 1 == len(results.runs):
        (run,) = done
        record = run.evaluation
        assert record is not None
        return Verdict(
            None,
            f"{run.arm} reaches a mean return of {number(record.mean)} on {run.env}.",
            (
                f"Standard deviation {number(record.std)} over {len(record.episodes)} episodes of "
                "one agent. One run says nothing about other seeds.",
            ),
        )
    scores = [
        f"{arm} {number(sum(values) / len(values))} on {env} ({seeds_words([len(values)])})"
        for arm, games in comparison.scores.items()
        for env, values in games.items()
    ]
    why = (
        "There is one arm, so nothing is compared."
        if len(results.arms) == 1
        else f"No game has finished runs of {comparison.baseline} and of another arm yet, so "
        "nothing is compared."
    )
    return Verdict(None, f"{why} Mean return: {joined(scores)}.", _under_way(results))


def _under_way(results: Results) -> tuple[str, ...]:
    steps = [run.course.timesteps for run in results.runs if run.status == "running"]
    if not steps:
        return ()
    return (f"{len(steps)} running, at {min(steps):,} to {max(steps):,} steps.",)


def _compared(comparison: Comparison) -> Verdict:
    best = max(comparison.arms, key=_rank)
    base, arm = comparison.baseline, best.arm
    games = best.games
    where = f"on {games[0].env}" if len(games) == 1 else f"over {len(games)} games"
    seeds = seeds_words([n for game in games for n in game.test.seeds])
    several = len(comparison.arms) > 1
    ahead = f"Of {len(comparison.arms) + 1} arms: " if several else ""
    among = f" among {len(comparison.arms) + 1} arms" if several else ""
    even = "even " if several else ""
    sentence = {
        "better": f"{ahead}{arm} is better than {base} {where}{_by(best)}.",
        "worse": _worse(comparison, best, where),
        "undecided": f"Undecided{among}: {even}{arm} and {base} cannot be told apart {where} with "
        f"{seeds} seeds.",
        "cannot tell": f"Too early to say{among} {where}: {seeds} seeds cannot tell {even}{arm} "
        f"from {base}.",
    }[best.finding]
    return Verdict(best.finding, sentence, tuple(_details(comparison, best, seeds)))


def _worse(comparison: Comparison, best: ArmComparison, where: str) -> str:
    if len(comparison.arms) == 1:
        return f"{comparison.baseline} is better than {best.arm} {where}{_by(best)}."
    return (
        f"Of {len(comparison.arms) + 1} arms {comparison.baseline} is the best {where}: all others "
        f"are worse, {best.arm} the least."
    )


def _rank(arm: ArmComparison) -> tuple[int, float]:
    """Puts what is found better first, what is found worse last, and sorts by the gain between."""
    return {"better": 1, "worse": -1}.get(arm.finding, 0), arm.difference.value


def _by(best: ArmComparison) -> str:
    """Writes by how much: on one game in returns, over several as how often a run wins."""
    if len(best.games) == 1:
        gain = best.difference
        return f", by a mean return of {number(abs(gain.value))}{_of_base(best.games[0])}"
    share = best.improvement.value
    share = 1 - share if best.finding == "worse" else share
    return f": a run of it scores higher than one of the other {share:.0%} of the time"


def _of_base(game: GameComparison) -> str:
    base = game.base_mean.value
    return f" ({abs(game.difference.value) / base:.0%} of {number(base)})" if base > 0 else ""


def _details(comparison: Comparison, best: ArmComparison, seeds: str) -> list[str]:
    sentences = [_several_games(best, comparison) if len(best.games) > 1 else _one_game(best)]
    if best.finding == "cannot tell":
        least = min(game.test.least_p for game in best.games)
        sentences.append(
            f"With {seeds} seeds even the clearest difference has {p_equals(least)} in one "
            "game: train more seeds."
        )
    sentences += [*_by_game(best), *_all_else_equal(comparison)]
    warning = few_seeds([n for game in best.games for n in game.test.seeds]).strip()
    return [*sentences, warning] if warning else sentences


def _several_games(best: ArmComparison, comparison: Comparison) -> str:
    """Says how far apart two arms are over several games, seen from the one that is ahead."""
    ahead, behind = best.arm, comparison.baseline
    gain, share = best.difference, best.improvement
    if best.finding == "worse":
        ahead, behind = behind, ahead
        gain, share = _mirrored(gain, 0), _mirrored(share, 1)
    return (
        f"{ahead} is {number(gain.value)} above {behind} in IQM of the {comparison.scale.name}"
        f"{_interval(gain, number)}; a run of it beats one of {behind} {share.value:.0%} of the "
        f"time{_interval(share, '{:.0%}'.format)}; {p_equals(best.p)}."
    )


def _one_game(best: ArmComparison) -> str:
    gain = _mirrored(best.difference, 0) if best.finding == "worse" else best.difference
    interval = _interval(gain, number) or " (no interval: one seed)"
    return f"Difference of mean return {number(gain.value)}{interval}, {p_equals(best.p)}."


def _mirrored(estimate: Estimate, around: float) -> Estimate:
    """Returns the estimate as seen from the other arm: of a difference 0 - x, of a share 1 - x."""
    low = None if estimate.high is None else around - estimate.high
    high = None if estimate.low is None else around - estimate.low
    return Estimate(around - estimate.value, low, high, estimate.note)


def _interval(estimate: Estimate, words: Callable[[float], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" (95 % interval {words(estimate.low)} to {words(estimate.high)})"


def _by_game(best: ArmComparison) -> list[str]:
    if len(best.games) == 1:
        return []
    if not any(game.finding in ("better", "worse") for game in best.games):
        return ["No game decides it by itself."]
    found = _found_in([(game.env, game.finding) for game in best.games])
    return [f"Game by game, {best.arm} is {found}."]


def _all_else_equal(comparison: Comparison) -> list[str]:
    if not comparison.gains:
        return []
    found = _found_in([(gain.of.arm, gain.of.finding) for gain in comparison.gains])
    return [f"With SN against the same without: {found}."]


def _found_in(findings: Sequence[tuple[str, Finding]]) -> str:
    """Writes where something is better, worse, and not decided."""
    parts = []
    for finding in ("better", "worse"):
        names = [name for name, found in findings if found == finding]
        if names:
            parts.append(f"{finding} in {joined(names)}")
    undecided = [name for name, found in findings if found not in ("better", "worse")]
    if undecided:
        parts.append(f"not decided in {joined(undecided)}")
    return "; ".join(parts)
