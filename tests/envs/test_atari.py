import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from sndqn.envs import AtariSettings, make_env
from sndqn.errors import ConfigError, EnvironmentNameError


def play(env, seed, actions):
    """Play from a seeded reset, through ends of games; return all that an agent sees."""
    seen = [env.reset(seed=seed)]
    for action in actions:
        seen.append(env.step(action))
        if seen[-1][2] or seen[-1][3]:
            seen.append(env.reset())
    return seen


def is_same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(first, second, strict=True)
    )


def script(length, n_actions, seed=0):
    return np.random.default_rng(seed).integers(n_actions, size=length).tolist()


@pytest.mark.parametrize("sticky_actions", [0.0, 0.25])
def test_a_seeded_reset_makes_everything_before_it_irrelevant(sticky_actions):
    settings = AtariSettings(game="seaquest", sticky_actions=sticky_actions)
    actions = script(700, 18)
    fresh, used = make_env(settings), make_env(settings)
    play(used, 99, script(150, 18, seed=1))
    assert is_same(play(fresh, 7, actions), play(used, 7, actions))


def test_different_seeds_differ_under_sticky_actions():
    env = make_env(AtariSettings(sticky_actions=0.25))
    actions = script(300, 4)
    assert not is_same(play(env, 0, actions), play(env, 1, actions))


@pytest.mark.parametrize("game", ["breakout", "pong"])
@pytest.mark.parametrize("sticky_actions", [0.0, 0.25])
def test_rendering_changes_nothing_and_stays_in_step_over_several_games(game, sticky_actions):
    settings = AtariSettings(game=game, sticky_actions=sticky_actions, max_frames=1500)
    plain, rendering = make_env(settings), make_env(settings, render_mode="rgb_array")
    actions = script(1200, 4)
    # The rendering environment itself asserts equal lives and frame numbers at every step.
    assert is_same(play(plain, 3, actions), play(rendering, 3, actions))
    frame = rendering.render()
    assert frame.shape == (210, 160, 3)
    assert frame.dtype == np.uint8
    assert frame.std() > 0


def test_the_rendered_screen_is_the_observed_one():
    cv2 = pytest.importorskip("cv2")
    env = make_env(AtariSettings(noop_max=0), render_mode="rgb_array")
    env.reset(seed=0)
    for action in script(60, 4):
        observation = env.step(action)[0]
    grey = cv2.cvtColor(env.render(), cv2.COLOR_RGB2GRAY)
    assert np.array_equal(cv2.resize(grey, (84, 84), interpolation=cv2.INTER_AREA), observation[-1])


def test_games_are_whole_and_rewards_raw():
    env = make_env(AtariSettings(game="ms_pacman"))
    env.reset(seed=0)
    steps = [env.step(action) for action in script(300, 9)]
    lives = [step[4]["lives"] for step in steps]
    assert lives[0] > lives[-1] > 0
    assert not any(step[2] or step[3] for step in steps)
    assert max(step[1] for step in steps) >= 10


def test_the_frame_cap_truncates():
    env = make_env(AtariSettings(game="pong", max_frames=82, noop_max=0))
    env.reset(seed=0)
    steps = [env.step(0) for _ in range(21)]
    assert [step[3] for step in steps] == [False] * 20 + [True]
    assert steps[-1][4]["episode_frame_number"] == 82


def test_stepping_past_the_end_or_before_the_start_is_refused():
    env = make_env(AtariSettings(max_frames=4))
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    assert env.step(0)[3]
    with pytest.raises(ResetNeeded):
        env.step(0)


def test_an_action_that_does_not_exist_is_refused_instead_of_hanging():
    env = make_env("Breakout")
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="Discrete"):
        env.step(4)


def test_impossible_seeds_render_modes_and_roms_are_refused():
    env = make_env("Breakout")
    with pytest.raises(ConfigError, match="expected a number in"):
        env.reset(seed=2**31)
    with pytest.raises(ConfigError, match="render_mode"):
        make_env("Breakout", render_mode="human")
    with pytest.raises(ConfigError, match="rgb_array"):
        env.render()
    with pytest.raises(EnvironmentNameError, match="no ROM"):
        make_env(AtariSettings(game="half_life"))


def test_settings_reach_the_emulator():
    settings = AtariSettings(full_action_space=True, frame_stack=2, screen_size=42, frame_skip=3)
    env = make_env(settings, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert observation.shape == (2, 42, 42)
    assert env.action_space.n == len(env.get_action_meanings()) == 18
    assert env.metadata["render_fps"] == 20
    before = env.step(0)[4]["frame_number"]
    assert env.step(0)[4]["frame_number"] - before == 3


def test_observations_handed_out_are_never_written_to_again():
    env = make_env("Breakout")
    observation, _ = env.reset(seed=0)
    kept = observation.copy()
    play(env, 1, script(20, 4))
    assert np.array_equal(observation, kept)


def test_gymnasium_accepts_the_environment():
    check_env(make_env("Breakout"), skip_render_check=True)
