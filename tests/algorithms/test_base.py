"""The loop: exploration, and Stable-Baselines3's updates, made while the environments run."""

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN as StockDQN
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
)
from tiny_envs import make_vec_env

import sndqn
from sndqn.envs import make_vec_env as make_real_vec_env
from sndqn.envs import resolve_env
from sndqn.envs.frames import frames_in
from sndqn.errors import ConfigError
from sndqn.replay import FrameRing

FAST: dict[str, Any] = {"seed": 0, "device": "cpu", "buffer_size": 300, "learning_starts": 30}


def cartpoles(n_envs: int = 1) -> DummyVecEnv:
    return DummyVecEnv([lambda: gym.make("CartPole-v1")] * n_envs)


def make(env: VecEnv | None = None, **kwargs: Any) -> sndqn.DQN:
    return sndqn.DQN("SNMlpPolicy", env or cartpoles(), **{**FAST, **kwargs})


def same_networks(a: Any, b: Any) -> bool:
    pairs = zip(a.policy.parameters(), b.policy.parameters(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("normalised", [False, True])
def test_without_overlap_and_sn_training_is_the_stock_algorithms_to_the_bit(
    normalised: bool,
) -> None:
    settings: dict[str, Any] = {
        **FAST,
        "learning_rate": 1e-3,
        "max_grad_norm": 1e9,  # far from clipping, where the norm's rounding shows
        "target_update_interval": 50,
        "exploration_fraction": 0.5,
        "policy_kwargs": {"optimizer_class": torch.optim.Adam},
    }

    def env() -> VecEnv:
        return VecNormalize(cartpoles()) if normalised else cartpoles()

    stock = StockDQN("MlpPolicy", env(), **settings).learn(800)
    settings["policy_kwargs"] = {**settings["policy_kwargs"], "sn_layers": "none"}
    ours = make(env(), **settings, overlap=False).learn(800)
    assert isinstance(ours.replay_buffer, FrameRing)
    assert stock._n_updates == ours._n_updates > 100
    assert same_networks(stock, ours)


@pytest.mark.parametrize("overlap", [False, True])
def test_either_replay_gives_the_same_training(overlap: bool) -> None:
    models = [
        make(cartpoles(3), overlap=overlap, replay_buffer_class=kind, train_freq=1).learn(500)
        for kind in (None, ReplayBuffer)
    ]
    assert isinstance(models[0].replay_buffer, FrameRing)
    assert type(models[1].replay_buffer) is ReplayBuffer
    assert same_networks(*models)


@pytest.mark.parametrize(
    ("n_envs", "arguments"),
    [
        (1, {"train_freq": 4, "gradient_steps": 1}),
        (1, {"train_freq": 3, "gradient_steps": -1}),
        (1, {"train_freq": (2, "episode"), "gradient_steps": 5}),
        (4, {"train_freq": 1, "gradient_steps": 2, "learning_starts": 0}),
        (4, {"train_freq": 2, "gradient_steps": -1}),
        (4, {"train_freq": 1, "gradient_steps": 0}),
    ],
)
def test_there_are_as_many_updates_as_with_the_stock_algorithm(
    n_envs: int, arguments: dict[str, Any]
) -> None:
    settings = {**FAST, **arguments, "exploration_initial_eps": 1.0, "exploration_final_eps": 1.0}
    stock = StockDQN("MlpPolicy", cartpoles(n_envs), **settings).learn(200)
    ours = make(cartpoles(n_envs), **settings).learn(200)
    assert ours._n_updates == stock._n_updates
    assert ours.num_timesteps == stock.num_timesteps


class Diary(VecEnvWrapper):
    """Writes down when steps are sent and received."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.events: list[str] = []

    def reset(self) -> Any:
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        self.events.append("send")
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        self.events.append("receive")
        return self.venv.step_wait()


@pytest.mark.parametrize(("overlap", "expected"), [(True, "stu"), (False, "sut")])
def test_learning_goes_on_between_sending_and_receiving(
    overlap: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = Diary(cartpoles(2))
    model = make(env, overlap=overlap, train_freq=2, gradient_steps=3, learning_starts=8)
    sizes: list[int] = []

    def train(gradient_steps: int, batch_size: int) -> None:
        env.events.append("train")
        assert model.replay_buffer is not None
        sizes.append(model.replay_buffer.size())
        assert (gradient_steps, batch_size) == (3, 32)

    monkeypatch.setattr(model, "train", train)
    model.learn(16)
    block = ["send", "receive", "send", "receive"]
    learning = {"stu": [*block[:3], "train", "receive"], "sut": [*block, "train"]}[expected]
    assert env.events == [*block, *block, *learning, *learning]
    assert sizes == ([5, 7] if overlap else [6, 8]), "the step under way is not there yet"


def test_a_callback_that_stops_training_stops_it_and_training_can_go_on() -> None:
    model = make(cartpoles(2))
    model.learn(10_000, StopTrainingOnMaxEpisodes(max_episodes=3))
    stopped = model.num_timesteps
    assert stopped < 10_000
    model.learn(50, reset_num_timesteps=False)
    assert model.num_timesteps >= stopped + 50


class Spy(BaseCallback):
    """Remembers the local variables it is given, when training starts and at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.at_start: dict[str, Any] = {}
        self.seen: dict[str, Any] = {}

    def _on_training_start(self) -> None:
        self.at_start = dict(self.locals)

    def _on_rollout_start(self) -> None:
        self.calls.append("start")

    def _on_step(self) -> bool:
        self.seen.update(self.locals)
        return True

    def _on_rollout_end(self) -> None:
        self.calls.append("end")


def test_callbacks_see_what_they_see_in_stable_baselines3() -> None:
    ours, theirs = Spy(), Spy()
    model = make(train_freq=4).learn(100, ours)
    StockDQN("MlpPolicy", cartpoles(), **FAST, train_freq=4).learn(100, theirs)
    assert ours.calls == theirs.calls
    assert set(theirs.at_start) <= set(ours.at_start)
    assert set(theirs.seen) <= set(ours.seen)
    plain = (bool, int, str)
    for name, value in theirs.at_start.items():
        if isinstance(value, plain):
            assert ours.at_start[name] == value, name
    assert ours.seen["replay_buffer"] is model.replay_buffer
    assert ours.seen["num_collected_steps"] == theirs.seen["num_collected_steps"] == 4
    assert np.array_equal(ours.seen["buffer_actions"], ours.seen["actions"])


def test_logs_of_a_run_are_named_after_the_algorithm(tmp_path: Path) -> None:
    make(tensorboard_log=str(tmp_path)).learn(10)
    assert [path.name for path in tmp_path.iterdir()] == ["DQN_1"]


def test_returns_of_several_steps_of_a_dictionary_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_steps"):
        sndqn.DQN("SNMultiInputPolicy", make_vec_env("dict"), **FAST, n_steps=3)


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [make(cartpoles(2)).learn(300) for _ in range(2)]
    assert same_networks(*runs)
    assert not same_networks(runs[0], make(cartpoles(2), seed=1).learn(300))


def test_stacks_of_frames_are_found_in_the_environment() -> None:
    assert frames_in(None) == 1
    assert frames_in(cartpoles()) == 1
    assert frames_in(VecNormalize(VecFrameStack(cartpoles(), 3))) == 3
    assert frames_in(make_real_vec_env(resolve_env("Breakout"), 1, seed=0)) == 4


def test_a_breakout_replay_stores_each_frame_once() -> None:
    env = make_real_vec_env(resolve_env("Breakout"), 2, seed=0)
    model = sndqn.DQN("SNCnnPolicy", env, **{**FAST, "buffer_size": 20_000})
    assert isinstance(model.replay_buffer, FrameRing)
    assert model.replay_buffer.nbytes_per_transition < 7200
    assert model.replay_buffer.frame_stack == 4


def test_dict_observations_keep_the_stock_replay() -> None:
    model = sndqn.DQN("SNMultiInputPolicy", make_vec_env("dict"), **FAST).learn(60)
    assert type(model.replay_buffer) is DictReplayBuffer
    assert model._n_updates > 0


def test_each_update_leaves_its_loss_and_count_where_callbacks_look() -> None:
    model = make().learn(60, log_interval=None)
    assert set(model._train_logs) >= {"loss", "q_mean", "grad_norm"}
    logged = model.logger.name_to_value
    assert logged["train/loss"] == float(model._train_logs["loss"])
    assert logged["train/n_updates"] == model._n_updates > 0
    assert "rollout/exploration_rate" in logged


def test_exploration_is_decided_for_each_environment_by_its_own_coin() -> None:
    model = make(cartpoles(8))
    model._setup_learn(100)
    model.exploration_rate = 0.5
    greedy, _ = model.policy.predict(model._last_obs, deterministic=True)  # type: ignore[arg-type]
    off = np.array([model._sample_action(0, n_envs=8)[0] != greedy for _ in range(400)])
    # Half explore and half of those, of two actions, differ: a quarter, in each column alone.
    assert np.all(np.abs(off.mean(axis=0) - 0.25) < 0.1)
    mixed = off.any(axis=1) & ~off.all(axis=1)
    assert mixed.mean() > 0.7, "some environments explore while others do not"
    correlation = np.corrcoef(off.T)[~np.eye(8, dtype=bool)]
    assert np.all(np.abs(correlation) < 0.25)


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0.0), (1.0, 0.5)])
def test_the_rate_of_exploration_is_the_one_asked_for(rate: float, share: float) -> None:
    model = make(cartpoles(4))
    model._setup_learn(100)
    model.exploration_rate = rate
    greedy, _ = model.policy.predict(model._last_obs, deterministic=True)  # type: ignore[arg-type]
    off = np.array([model._sample_action(0, n_envs=4)[0] != greedy for _ in range(300)])
    assert off.mean() == pytest.approx(share, abs=0.07)


def test_before_learning_starts_every_action_is_random() -> None:
    model = make(cartpoles(4))
    model._setup_learn(100)
    model.exploration_rate = 0.0
    drawn = np.array([model._sample_action(10, n_envs=4)[0] for _ in range(200)])
    assert drawn.mean() == pytest.approx(0.5, abs=0.1)


def test_no_gradient_is_clipped_when_no_norm_is_given() -> None:
    moved = []
    for limit in (None, 1e9):
        model = make(max_grad_norm=limit, learning_rate=1e-3)
        model.learn(80)
        moved.append(list(model.policy.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*moved, strict=True))


@pytest.mark.parametrize("max_grad_norm", [10.0, 0.01])
def test_without_sn_updates_are_those_of_the_stock_algorithm(max_grad_norm: float) -> None:
    settings = {**FAST, "max_grad_norm": max_grad_norm, "learning_rate": 1e-3}
    stock = StockDQN("MlpPolicy", cartpoles(), **settings)
    ours = make(policy_kwargs={"sn_layers": "none"}, **settings)
    stock.learn(40)
    # Copied: Adam would share its moments with the original.
    ours.set_parameters(copy.deepcopy(stock.get_parameters()))
    ours._setup_learn(40)
    ours.replay_buffer = stock.replay_buffer
    for gradient_steps in (1, 3, 4):
        for model in (stock, ours):
            np.random.seed(gradient_steps)
            model.train(gradient_steps, batch_size=16)
    for name, value in stock.q_net.named_parameters():
        torch.testing.assert_close(ours.q_net.get_parameter(name), value, rtol=1e-6, atol=1e-7)
