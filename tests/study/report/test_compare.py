"""What runs say of arms."""

from pathlib import Path

import numpy as np
import pytest
from made_runs import make_factorial, make_run, make_study

from sndqn.study import statistics
from sndqn.study.bootstrap import estimate
from sndqn.study.overall import permutation_test_over_games
from sndqn.study.report.compare import Comparison, compare
from sndqn.study.report.verdict import verdict
from sndqn.study.results import Results, read_results
from sndqn.study.scores import normalised
from sndqn.study.significance import holm, permutation_test

GAMES = ["MinAtar/Breakout", "MinAtar/Asterix"]


def compared(folder: Path, against: str | None = None) -> tuple[Results, Comparison]:
    results = read_results([folder])
    return results, compare(results, against)


def test_the_numbers_are_those_of_the_statistics(tmp_path: Path) -> None:
    results, comparison = compared(make_study(tmp_path, GAMES, 5, points=2))
    assert comparison.baseline == "plain"
    ((only),) = comparison.arms
    tests = {}
    for game in only.games:
        own = [run.score for run in results.of(game.env, "SN -2")]
        base = [run.score for run in results.of(game.env, "plain")]
        tests[game.env] = permutation_test(own, base)
        assert game.mean.value == np.mean(own)
        assert game.difference == statistics.difference(
            {game.env: own}, {game.env: base}, statistics.mean, replicates=10_000
        )
        assert game.test == tests[game.env]
    assert {game.env: game.p for game in only.games} == holm(
        {env: test.p for env, test in tests.items()}
    )
    scaled = comparison.scaled["SN -2"], comparison.scaled["plain"]
    assert only.improvement == estimate(
        statistics.probability_of_improvement, *scaled, replicates=10_000
    )
    of_arms = comparison.scores["SN -2"], comparison.scores["plain"]
    assert only.p == permutation_test_over_games(*of_arms).p


def test_games_with_references_are_normalised_by_them(tmp_path: Path) -> None:
    _, comparison = compared(make_study(tmp_path, GAMES, 3, points=2))
    for arm, scores in comparison.scores.items():
        assert comparison.scaled[arm] == {e: v.tolist() for e, v in normalised(scores).items()}
    assert comparison.scale.name == "DQN-normalised score"


def test_games_without_are_scaled_to_the_range_of_their_runs(tmp_path: Path) -> None:
    envs = ["MinAtar/Breakout", "CartPole-v1"]
    _, comparison = compared(make_study(tmp_path, envs, 3, points=2))
    for env in envs:
        values = [v for games in comparison.scaled.values() for v in games[env]]
        assert (min(values), max(values)) == (0, 1)


def test_one_game_keeps_its_scores(tmp_path: Path) -> None:
    _, comparison = compared(make_study(tmp_path, GAMES[:1], 3, points=2))
    assert comparison.scaled == comparison.scores


@pytest.mark.parametrize(
    ("seeds", "gain", "finding", "words"),
    [
        (6, 5.0, "better", "SN -2 is better than plain on MinAtar/Breakout, by"),
        (6, -5.0, "worse", "plain is better than SN -2 on MinAtar/Breakout, by"),
        (6, 0.0, "undecided", "Undecided: SN -2 and plain cannot be told apart"),
        (3, 5.0, "cannot tell", "Too early to say on MinAtar/Breakout: n = 3 seeds cannot tell"),
        (1, 5.0, "cannot tell", "Too early to say on MinAtar/Breakout: n = 1 seeds cannot tell"),
    ],
)
def test_the_verdict_says_no_more_than_the_runs(
    tmp_path: Path, seeds: int, gain: float, finding: str, words: str
) -> None:
    results, comparison = compared(
        make_study(tmp_path, ["MinAtar/Breakout"], seeds, gain, points=2)
    )
    said = verdict(results, comparison)
    assert said.finding == finding
    assert said.sentence.startswith(words)


def test_several_games_decide_together_what_none_can_alone(tmp_path: Path) -> None:
    games = [*GAMES, "MinAtar/Freeway"]
    results, comparison = compared(make_study(tmp_path, games, 3, points=2))
    said = verdict(results, comparison)
    assert {game.finding for game in comparison.games} == {"cannot tell"}
    assert said.sentence == (
        "SN -2 is better than plain over 3 games: a run of it scores higher than "
        "one of the other 100% of the time."
    )
    assert "No game decides it by itself." in said.details
    assert any("fewer than 5 seeds" in sentence for sentence in said.details)


def test_of_several_arms_the_one_that_gains_is_named_and_tests_are_adjusted(tmp_path: Path) -> None:
    for seed in range(6):
        for sn, score in (("none", 10.0), ("-2", 11.0), ("-3", 20.0)):
            level = score + 0.1 * seed
            make_run(tmp_path / f"{sn}{seed}", seed=seed, score=level, points=2, sn_layers=sn)
    results, comparison = compared(tmp_path)
    said = verdict(results, comparison)
    assert said.sentence.startswith("Of 3 arms: SN -3 is better than plain")
    least = 2 / 924  # of 6 runs against 6
    assert [game.p for game in comparison.games] == pytest.approx([2 * least, 2 * least])


def test_the_baseline_may_be_named(tmp_path: Path) -> None:
    results = read_results([make_study(tmp_path, GAMES[:1], 4, points=2)])
    comparison = compare(results, "SN -2")
    assert [arm.arm for arm in comparison.arms] == ["plain"]
    assert comparison.arms[0].difference.value == pytest.approx(
        -compare(results).arms[0].difference.value
    )


def test_unfinished_runs_count_nowhere(tmp_path: Path) -> None:
    make_study(tmp_path, GAMES[:1], 2, points=2)
    make_run(tmp_path / "new", seed=7, score=None, points=2, sn_layers="none")
    _, comparison = compared(tmp_path)
    assert comparison.games[0].test.seeds == (2, 2)


def test_without_a_finished_run_nothing_is_said(tmp_path: Path) -> None:
    make_run(tmp_path / "a", score=None)
    results, comparison = compared(tmp_path)
    assert comparison.arms == ()
    assert verdict(results, comparison).sentence.startswith("No run is finished yet")


def test_a_game_that_one_arm_lacks_is_not_compared(tmp_path: Path) -> None:
    make_study(tmp_path, GAMES[:1], 2, points=2)
    make_run(tmp_path / "more", GAMES[1], points=2, sn_layers="-2")
    _, comparison = compared(tmp_path)
    assert [game.env for game in comparison.games] == GAMES[:1]


@pytest.mark.parametrize("games", [GAMES[:1], GAMES])
def test_sn_is_compared_with_the_same_settings_without(tmp_path: Path, games: list[str]) -> None:
    results, comparison = compared(make_factorial(tmp_path, games, cold=0.0, hot=8.0))
    cold, hot = comparison.gains
    assert (cold.of.arm, cold.of.base) == ("SN -2, lr 0.0001", "plain, lr 0.0001")
    assert (hot.of.arm, hot.of.base) == ("SN -2, lr 0.001", "plain, lr 0.001")
    assert (cold.of.finding, hot.of.finding) == ("undecided", "better")
    assert (cold.first, cold.more, hot.first) == (None, None, cold.of)
    aggregate = statistics.iqm if len(games) > 1 else statistics.mean
    four = [comparison.scaled[arm] for c in (hot.of, cold.of) for arm in (c.arm, c.base)]
    assert hot.more == statistics.interaction(*four, aggregate, replicates=10_000)
    details = verdict(results, comparison).details
    assert (
        "With SN against the same without: better in SN -2, lr 0.001; not decided in "
        "SN -2, lr 0.0001." in details
    )


def test_one_arm_without_sn_is_the_baseline_of_all_and_needs_no_second_table(
    tmp_path: Path,
) -> None:
    _, comparison = compared(make_study(tmp_path, GAMES, 3, points=2))
    assert comparison.gains == ()


def test_an_arm_whose_settings_no_arm_without_sn_has_is_compared_with_the_baseline_alone(
    tmp_path: Path,
) -> None:
    make_run(tmp_path / "a", score=5.0, points=2, sn_layers="none", learning_rate=1e-3)
    make_run(tmp_path / "b", score=5.0, points=2, sn_layers="none", learning_rate=1e-4)
    make_run(tmp_path / "c", score=6.0, points=2, sn_layers="-2", learning_rate=1e-4)
    make_run(tmp_path / "d", score=7.0, points=2, sn_layers="-2", learning_rate=1e-2)
    _, comparison = compared(tmp_path)
    assert comparison.baseline == "plain, lr 0.0001"
    assert comparison.gains == ()
    _, comparison = compared(tmp_path, "plain, lr 0.001")
    assert [gain.of.arm for gain in comparison.gains] == ["SN -2, lr 0.0001"]
