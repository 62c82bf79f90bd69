"""Reference scores are of games that exist, and normalise as they say."""

import numpy as np
import pytest

from sndqn.envs import make_env, resolve_env
from sndqn.errors import ScoresError
from sndqn.study.scores import normalised, references, without_reference


def test_every_reference_is_of_a_game_by_its_full_name() -> None:
    for game, reference in references().items():
        assert resolve_env(game).name == game
        assert reference.random < reference.reference
        assert len(reference.source) > 40


def test_all_of_atari_57_and_of_minatar_have_a_reference() -> None:
    names = [reference.name for reference in references().values()]
    assert (names.count("human"), names.count("DQN")) == (57, 5)


def test_the_random_agent_is_worth_nothing_and_the_reference_one() -> None:
    scores = {game: [r.random, r.reference, 2 * r.reference] for game, r in references().items()}
    for game, values in normalised(scores).items():
        r = references()[game]
        assert values[:2] == pytest.approx([0, 1])
        assert values[2] == pytest.approx(1 + r.reference / (r.reference - r.random))


def test_breakout_at_100_is_341_percent_of_a_human() -> None:
    assert normalised({"Breakout": 100.0})["Breakout"] == pytest.approx((100 - 1.7) / 28.8)


def test_curves_normalise_in_their_shape() -> None:
    assert normalised({"MinAtar/Freeway": np.zeros((7, 3))})["MinAtar/Freeway"].shape == (7, 3)


def test_a_game_without_reference_is_named() -> None:
    assert without_reference(["Breakout", "CartPole-v1"]) == ["CartPole-v1"]
    with pytest.raises(ScoresError, match="no reference score of CartPole-v1"):
        normalised({"Breakout": [1.0], "CartPole-v1": [500.0]})


@pytest.mark.parametrize(
    ("game", "games"),
    [
        ("Breakout", 1000),
        ("Asterix", 500),
        ("Seaquest", 500),
        ("SpaceInvaders", 300),
        ("Freeway", 10),
    ],
)
def test_random_actions_earn_on_minatar_what_the_table_says(game: str, games: int) -> None:
    env, rng = make_env(resolve_env(f"MinAtar/{game}")), np.random.default_rng(1)
    env.reset(seed=1)
    returns = []
    for _ in range(games):
        total, done = 0.0, False
        while not done:
            _, reward, terminated, truncated, _ = env.step(int(rng.integers(6)))
            total, done = total + float(reward), terminated or truncated
        returns.append(total)
        env.reset()
    error = np.std(returns) / games**0.5
    table = references()[f"MinAtar/{game}"].random
    assert np.mean(returns) == pytest.approx(table, abs=4 * error + 0.01)
