import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from sndqn.envs import MinAtarSettings, make_env
from sndqn.envs.settings import MINATAR_GAMES
from sndqn.errors import ConfigError


def play(env, seed, length=400, n_actions=6):
    """Play random actions through ends of games; return all that an agent sees."""
    actions = np.random.default_rng(0).integers(n_actions, size=length).tolist()
    seen = [(env.reset(seed=seed)[0].tobytes(), 0.0, False)]
    for action in actions:
        observation, reward, terminated, _, _ = env.step(action)
        seen.append((observation.tobytes(), reward, terminated))
        if terminated:
            seen.append((env.reset()[0].tobytes(), 0.0, False))
    return seen


@pytest.mark.parametrize("game", MINATAR_GAMES)
def test_a_seeded_reset_makes_everything_before_it_irrelevant(game):
    fresh = make_env(MinAtarSettings(game=game))
    used = make_env(MinAtarSettings(game=game))
    play(used, 5, length=777)
    assert play(fresh, 3) == play(used, 3)


@given(seed=st.integers(0, 2**32 - 1), ramping=st.booleans())
@settings(max_examples=15, deadline=None)
def test_every_seed_repeats(seed, ramping):
    env = make_env(MinAtarSettings(game="asterix", difficulty_ramping=ramping))
    assert play(env, seed, 60) == play(env, seed, 60)


def test_different_seeds_differ():
    env = make_env(MinAtarSettings(game="asterix"))
    assert play(env, 0) != play(env, 1)


def test_a_game_is_that_of_the_package():
    # In its own process, since the package draws in matplotlib and its warnings.
    code = """
import numpy as np
from minatar import Environment
from sndqn.envs import MinAtarSettings, make_env
from sndqn.envs.settings import MINATAR_GAMES
actions = np.random.default_rng(0).integers(6, size=3000).tolist()
for game in MINATAR_GAMES:
    theirs, ours = Environment(game), make_env(MinAtarSettings(game=game))
    theirs.seed(4)
    theirs.reset()
    ours.reset(seed=4)
    for action in actions:
        reward, done = theirs.act(action)
        step = ours.step(action)
        assert step[1:3] == (reward, done)
        assert np.array_equal(step[0], theirs.state().transpose(2, 0, 1))
        if done:
            theirs.reset()
            theirs.last_action = 0
            ours.reset()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("game", MINATAR_GAMES)
def test_gymnasium_accepts_the_environment(game):
    env = make_env(MinAtarSettings(game=game))
    assert env.observation_space.shape[1:] == (10, 10)
    check_env(env, skip_render_check=True)


def test_minimal_actions_are_the_same_moves_under_smaller_numbers():
    minimal = make_env(MinAtarSettings(minimal_actions=True))
    full = make_env(MinAtarSettings())
    assert minimal.get_action_meanings() == ["NOOP", "LEFT", "RIGHT"]
    minimal.reset(seed=0)
    full.reset(seed=0)
    for action in np.random.default_rng(0).integers(3, size=20).tolist():
        numbered = full.get_action_meanings().index(minimal.get_action_meanings()[action])
        assert np.array_equal(minimal.step(action)[0], full.step(numbered)[0])


def test_rendering_shows_each_channel_in_its_colour():
    env = make_env("MinAtar/Breakout", render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    frame = env.render()
    assert frame.shape == (10, 10, 3)
    assert frame.dtype == np.uint8
    bricks, empty = frame[observation[3] == 1], frame[observation.sum(axis=0) == 0]
    assert (bricks == bricks[0]).all()
    assert (empty == empty[0]).all()
    assert (bricks[0] != empty[0]).any()
    with pytest.raises(ConfigError, match="render_mode"):
        make_env("MinAtar/Breakout", render_mode="human")
