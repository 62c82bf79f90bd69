"""Environments come back from their journal as if they had never been left."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sndqn.envs import make_vec_env, resolve_env
from sndqn.envs.journal import JournalVecEnv
from sndqn.errors import ConfigError


def journal(name: str, n_envs: int, seed: int = 0, **kwargs: Any) -> JournalVecEnv:
    overrides = kwargs.pop("overrides", {})
    venv = make_vec_env(resolve_env(name, **overrides), n_envs)
    return JournalVecEnv(venv, seed, **kwargs)


def play(env: Any, rng: np.random.Generator, n_steps: int) -> list[Any]:
    """Everything a training sees of so many random steps."""
    seen: list[Any] = []
    for _ in range(n_steps):
        actions = rng.integers(env.action_space.n, size=env.num_envs)
        observations, rewards, dones, infos = env.step(actions)
        episodes = [(i["episode"]["r"], i["episode"]["l"]) for i in infos if "episode" in i]
        seen.append((np.array(observations), rewards.tolist(), dones.tolist(), episodes))
    return seen


def same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x[0], y[0]) and x[1:] == y[1:] for x, y in zip(a, b, strict=True)
    )


CASES = [
    ("CartPole", {}, 200, 30),
    ("MinAtar/Seaquest", {}, 300, 50),
    ("Pong", {"noop_max": 30}, 120, 40),
    ("Breakout", {"sticky_actions": 0.25}, 250, 60),
    ("Breakout", {"sticky_actions": 0.25, "fire_reset": True}, 250, 60),
]


@pytest.mark.parametrize(("name", "overrides", "n_steps", "reseed_after"), CASES)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_restored_environment_goes_on_as_the_one_that_was_never_left(
    name: str, overrides: dict[str, Any], n_steps: int, reseed_after: int, n_envs: int
) -> None:
    kwargs: dict[str, Any] = {"reseed_after": reseed_after, "overrides": overrides}
    env = journal(name, n_envs, seed=3, **kwargs)
    env.reset()
    rng = np.random.default_rng(0)
    played = play(env, rng, n_steps)
    arrays, data = env.state()

    other = journal(name, n_envs, seed=99, **kwargs)
    play(other, np.random.default_rng(5), 7) if other.reset() is not None else None
    observations = other.restore(arrays, data)
    assert np.array_equal(observations, played[-1][0])
    later = np.random.default_rng(1)
    assert same(play(env, np.random.default_rng(1), n_steps), play(other, later, n_steps))
    env.close()
    other.close()


@given(st.integers(0, 5), st.integers(0, 120), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_any_moment_of_cartpole_comes_back(seed: int, n_steps: int, n_envs: int) -> None:
    env = journal("CartPole", n_envs, seed, reseed_after=20)
    first = env.reset()
    played = play(env, np.random.default_rng(seed), n_steps)
    other = journal("CartPole", n_envs, reseed_after=20)
    found = other.restore(*env.state())
    assert np.array_equal(found, played[-1][0] if played else first)


def test_a_journal_starts_anew_at_a_true_end_once_it_has_grown_long() -> None:
    env = journal("CartPole", 2, reseed_after=40)
    env.reset()
    longest = 0
    for _ in range(300):
        env.step(np.array([0, 1]))
        longest = max(longest, *(len(log) for log in env.state()[0].values()))
    assert 40 <= longest < 40 + 12, "a game of one action lasts about ten steps"
    assert min(env.state()[1]["generations"]) > 3


def test_other_seeds_give_other_games_and_equal_seeds_equal_ones() -> None:
    shown = []
    for seed in (1, 1, 2):
        env = journal("CartPole", 2, seed)
        env.reset()
        shown.append(play(env, np.random.default_rng(0), 50))
    assert same(shown[0], shown[1])
    assert not same(shown[0], shown[2])


def test_a_journal_of_other_environments_is_refused() -> None:
    env = journal("CartPole", 2)
    env.reset()
    arrays, data = env.state()
    with pytest.raises(ConfigError, match="expected 3 environments, found 2"):
        journal("CartPole", 3).restore(arrays, data)
    arrays["actions_0"] = np.array([7], np.uint8)
    with pytest.raises(ConfigError, match="expected actions 0 to 1"):
        journal("CartPole", 2).restore(arrays, data)
