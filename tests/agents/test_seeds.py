"""The scores of an arm's seeds, and which seed ships."""

from hypothesis import given
from hypothesis import strategies as st

from sndqn.agents.seeds import SeedScores

SCORES = st.dictionaries(st.integers(0, 99), st.floats(-1e6, 1e6), min_size=1, max_size=9)


@given(SCORES)
def test_as_many_seeds_are_above_the_median_as_below_or_one_more(scores: dict[int, float]) -> None:
    middle = scores[SeedScores("a", "sn", scores).median_seed]
    assert sum(score < middle for score in scores.values()) <= (len(scores) - 1) // 2
    assert sum(score > middle for score in scores.values()) <= len(scores) // 2


@given(SCORES)
def test_every_score_is_said_and_written(scores: dict[int, float]) -> None:
    seeds = SeedScores("a", "sn", scores)
    assert all(f"{score:.1f}" in seeds.summary for score in scores.values())
    assert seeds.to_json()["scores"] == {str(s): score for s, score in sorted(scores.items())}


def test_the_summary_reads_as_a_sentence_would() -> None:
    assert SeedScores("a", "sn", {0: 9.0, 1: 7.0, 2: 8.0}).summary == (
        "8.0 ± 1.0 over 3 seeds (7.0, 8.0, 9.0)"
    )
    assert SeedScores("a", "sn", {4: 9.0}).summary == "9.0 over 1 seed (9.0)"


def test_one_seed_alone_is_not_called_a_median() -> None:
    alone, three = SeedScores("a", "sn", {4: 3.0}), SeedScores("a", "sn", {0: 3.0, 1: 9.0, 2: 5.0})
    assert (alone.place, alone.summary) == ("the only one so far", "3.0 over 1 seed (3.0)")
    assert three.place == "the median"
