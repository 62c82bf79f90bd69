"""The screen that is shown is that of the game that is played, frame by frame."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from sndqn.envs import resolve_env
from sndqn.envs.atari import AtariEnv, make_emulator


@pytest.mark.parametrize("sticky_actions", [0.0, 0.25])
@pytest.mark.parametrize("game", ["Breakout", "Seaquest", "Pong"])
def test_pairs_of_frames_pool_to_what_the_followed_emulator_shows_in_colour(
    game: str, sticky_actions: float
) -> None:
    settings = replace(resolve_env(game), sticky_actions=sticky_actions)
    env = AtariEnv(settings, "rgb_array")
    colour = make_emulator(settings, img_height=210, img_width=160, grayscale=False, stack_num=1)
    rng = np.random.default_rng(1)
    for seed in (3, None):
        env.reset(seed=seed)
        colour.reset(seed=None if seed is None else np.array([seed]))
        for _ in range(120):
            action = int(rng.integers(env.action_space.n))  # type: ignore[attr-defined]
            _, _, terminated, truncated, _ = env.step(action)
            shown, *_ = colour.step(np.array([action]))
            if terminated or truncated:
                break
            frames = env.frames_of_step()
            assert len(frames) == settings.frame_skip
            np.testing.assert_array_equal(np.maximum(*frames[-2:]), shown[0, 0])
            np.testing.assert_array_equal(env.render(), shown[0, 0])


def test_frames_are_shown_of_steps_that_press_fire_too() -> None:
    settings = resolve_env("Breakout", protocol="sb3")
    env = AtariEnv(settings, "rgb_array")
    observation, _ = env.reset(seed=5)
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(300):
        grey = cv2.cvtColor(env.render(), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (84, 84), interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(int) - observation[-1]).mean() < 1
        # The screen itself asserts equal lives and frame numbers at every step.
        observation, _, terminated, _, _ = env.step(int(rng.integers(4)))
        sizes.add(len(env.frames_of_step()))
        if terminated:
            break
    assert sizes >= {4, 16}  # a step alone; with a no-op, FIRE and action 2 after a lost life


def test_the_frame_that_ends_a_game_is_shown() -> None:
    env = AtariEnv(resolve_env("Breakout"), "rgb_array")
    env.reset(seed=2)
    rng = np.random.default_rng(0)
    terminated = False
    while not terminated:
        _, _, terminated, _, info = env.step(int(rng.integers(4)))
    assert 1 <= len(env.frames_of_step()) <= 4
    assert info["lives"] == 0


def test_a_screen_of_another_height_is_shown_as_it_is() -> None:
    env = AtariEnv(resolve_env("AirRaid"), "rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (250, 160, 3)
