"""FrameRing in real games, under VecNormalize, in Stable-Baselines3's DQN and in files."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from comparison import assert_same_batch, batch, pair
from histories import RandomGames, played
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from sndqn.envs import make_vec_env, resolve_env
from sndqn.envs.vector import SmallVecEnv
from sndqn.replay import FrameRing


def breakout() -> VecEnv:
    return make_vec_env(resolve_env("Breakout"), 2, seed=0)


def cart_pole(n_envs: int = 3, time_limit: int = 12) -> SmallVecEnv:
    limit = {"max_episode_steps": time_limit}
    return SmallVecEnv([gymnasium.make("CartPole-v1", **limit) for _ in range(n_envs)])  # type: ignore[arg-type]


REAL: dict[str, tuple[Any, int, int]] = {
    "Breakout": (breakout, 4, 400),
    "CartPole": (cart_pole, 1, 300),
    "stacked CartPole": (lambda: VecFrameStack(cart_pole(), 3), 3, 300),
    "MinAtar": (lambda: make_vec_env(resolve_env("MinAtar/Breakout"), 2, seed=0), 1, 300),
}


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("name", REAL)
def test_real_games_give_the_batches_of_sb3(name: str, n_steps: int) -> None:
    make, frame_stack, length = REAL[name]
    env = make()
    env.seed(0)
    ring, theirs = pair(
        400, env.observation_space, env.action_space, env.num_envs,
        frame_stack=frame_stack, n_steps=n_steps,
    )  # fmt: skip
    seen = {"lives": 0, "timeouts": 0, "ends": 0}
    for number, step in enumerate(played(env, length)):
        ring.add(*step)
        theirs.add(*step)
        for i in np.flatnonzero(step[4]):
            kind = "ends" if "episode" in step[5][i] else "lives"
            seen["timeouts" if step[5][i]["TimeLimit.truncated"] else kind] += 1
        if number % 50 == 49:
            assert_same_batch(ring, theirs, number)
    assert seen["ends"] > 2
    assert (seen["lives"] > 2) == (name == "Breakout")
    assert (seen["timeouts"] > 2) == ("CartPole" in name)
    assert ring.padding == ("zeros" if frame_stack > 1 else None)


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("frame_stack", [1, 2])
@pytest.mark.parametrize("what", [{}, {"norm_obs": False}, {"norm_reward": False}])
def test_vec_normalize_normalises_as_in_sb3(
    what: dict[str, bool], frame_stack: int, n_steps: int
) -> None:
    inner: VecEnv = cart_pole()
    inner = VecFrameStack(inner, frame_stack) if frame_stack > 1 else inner
    inner.seed(0)
    env = VecNormalize(inner, **what)  # type: ignore[arg-type]
    ring, theirs = pair(
        200, env.observation_space, env.action_space, 3, frame_stack=frame_stack, n_steps=n_steps
    )
    for step in played(env, 150):
        ring.add(*step)
        theirs.add(*step)
    assert_same_batch(ring, theirs, 0, env)
    if not what:
        normalised, raw = batch(ring, 32, 0, env), batch(ring, 32, 0)
        assert not torch.equal(normalised.observations, raw.observations)
        assert not torch.equal(normalised.rewards, raw.rewards)


def run_dqn(env: VecEnv, policy: str, steps: int = 100, **settings: Any) -> DQN:
    fast: dict[str, Any] = {"learning_starts": 30, "batch_size": 16, "train_freq": 1, "seed": 0}
    model = DQN(policy, env, device="cpu", **{"buffer_size": 150, **fast, **settings})
    model.learn(steps)
    return model.learn(steps)  # resets within the games


def assert_same_network(one: DQN, other: DQN) -> None:
    for value, expected in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        assert torch.equal(value, expected)


def test_sb3s_dqn_learns_the_same_network_from_either_buffer() -> None:
    ours = run_dqn(cart_pole(), "MlpPolicy", replay_buffer_class=FrameRing)
    assert_same_network(ours, run_dqn(cart_pole(), "MlpPolicy"))


@pytest.mark.filterwarnings("ignore:The last trajectory in the replay buffer")
def test_sb3s_option_to_save_memory_changes_nothing_but_its_cut_between_two_runs() -> None:
    model = run_dqn(
        cart_pole(), "MlpPolicy", replay_buffer_class=FrameRing, optimize_memory_usage=True
    )
    ring = model.replay_buffer
    assert isinstance(ring, FrameRing)
    last_of_first_run = -(-100 // 3) - 1
    assert ring.dones[last_of_first_run].all()
    assert not ring.timeouts[last_of_first_run].any()


def test_sb3s_dqn_learns_the_same_network_from_stacked_frames() -> None:
    stacked = {"frame_stack": 4}
    ours = run_dqn(
        breakout(),
        "CnnPolicy",
        50,
        replay_buffer_class=FrameRing,
        replay_buffer_kwargs=stacked,
        policy_kwargs={"net_arch": [16]},
    )
    theirs = run_dqn(breakout(), "CnnPolicy", 50, policy_kwargs={"net_arch": [16]})
    assert_same_network(ours, theirs)


@pytest.mark.parametrize("steps", [5, 70])
@pytest.mark.parametrize("frame_stack", [1, 3])
def test_a_saved_ring_loads_to_the_same_and_goes_on(
    frame_stack: int, steps: int, tmp_path: Path
) -> None:
    env = VecFrameStack(cart_pole(1), frame_stack) if frame_stack > 1 else cart_pole(1)
    ring = {"frame_stack": frame_stack, "n_steps": 2}
    model = DQN(
        "MlpPolicy", env, device="cpu", buffer_size=40, learning_starts=10**6, seed=0,
        replay_buffer_class=FrameRing, replay_buffer_kwargs=ring,
    )  # fmt: skip
    model.learn(steps)
    before = model.replay_buffer
    assert before is not None
    model.save_replay_buffer(tmp_path / "replay")
    model.load_replay_buffer(tmp_path / "replay")
    after = model.replay_buffer
    assert after is not None
    assert after is not before
    assert_same_batch(after, before)
    space = env.observation_space
    games = RandomGames(space, 1, frame_stack, p_end=0.2)
    for _ in range(60):
        step = games.step()
        before.add(*step)
        after.add(*step)
        assert_same_batch(after, before)


def test_the_file_of_a_short_run_is_small(tmp_path: Path) -> None:
    env = breakout()
    model = DQN(
        "CnnPolicy", env, device="cpu", buffer_size=100_000, learning_starts=10**6, seed=0,
        replay_buffer_class=FrameRing, replay_buffer_kwargs={"frame_stack": 4},
    )  # fmt: skip
    model.learn(100)
    model.save_replay_buffer(tmp_path / "replay")
    assert (tmp_path / "replay.pkl").stat().st_size < 5e6


@pytest.mark.parametrize("name", ["CartPole", "stacked CartPole"])
def test_all_observations_are_where_stable_baselines3_has_them(name: str) -> None:
    env = REAL[name][0]()
    both = [
        DQN("MlpPolicy", env, seed=0, buffer_size=300, device="cpu", replay_buffer_class=kind)
        for kind in (FrameRing, None)
    ]
    ours, theirs = (model.learn(60).replay_buffer for model in both)
    assert ours is not None
    assert theirs is not None
    assert ours.observations.shape == theirs.observations.shape
    assert ours.next_observations.dtype == theirs.next_observations.dtype
    assert ours.observations[ours.size() :].max(initial=0) == 0
