"""Training interrupted anywhere and continued: the replay holds what the environments made."""

import linecache
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import pytest
import stable_baselines3
from echo_envs import Echo, Goals, decode, length, reward
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)

import sndqn
from sndqn.algorithms import MultiTask
from sndqn.envs import AtariSettings, resolve_env
from sndqn.envs.atari_vector import AtariVecEnv
from sndqn.envs.journal import JournalVecEnv
from sndqn.envs.vector import SmallVecEnv
from sndqn.errors import TrainingError

GAMMA = 0.9
STACK = 3


def echoes(kind: str = "vector", n: int = 2) -> list[Callable[[], Echo]]:
    return [lambda i=i: Echo(i, kind) for i in range(n)]  # type: ignore[misc]


def stacked(env: VecEnv) -> VecEnv:
    return VecFrameStack(env, STACK, channels_order="first")


def small(kind: str = "vector") -> SmallVecEnv:
    return SmallVecEnv([make() for make in echoes(kind)])


VECTORS: dict[str, Callable[[], VecEnv]] = {
    "dummy": lambda: DummyVecEnv(echoes()),
    "subproc": lambda: SubprocVecEnv(echoes()),
    "stacked": lambda: stacked(DummyVecEnv(echoes("image"))),
    "stacked subproc": lambda: stacked(SubprocVecEnv(echoes("image"))),
    "normalised": lambda: VecNormalize(DummyVecEnv(echoes())),
    "normalised subproc": lambda: VecNormalize(SubprocVecEnv(echoes())),
    "stacked and normalised": lambda: VecNormalize(
        stacked(DummyVecEnv(echoes("image"))), norm_obs=False
    ),
    "transposed": lambda: stacked(VecTransposeImage(DummyVecEnv(echoes("last")))),
    "dictionary": lambda: DummyVecEnv(echoes("dict")),
    "small": small,
    "small stacked": lambda: stacked(small("image")),
    "journal": lambda: JournalVecEnv(small(), 0, reseed_after=20),
}


class Stop(Exception):
    """What someone's callback or environment raises."""


class StopAfter:
    """Raises at the so-manieth line of the training loop, its replay and its environments.

    Args:
        lines: How many lines are run before.
        error: What is raised.
        again: After how many lines more it is raised once more, as by impatient hands.
    """

    FILES = ("algorithms/", "replay/", "envs/", "common/vec_env/", "common/buffers", "her/")

    def __init__(self, lines: int, error: type[BaseException], again: int = 0) -> None:
        self.left, self.error, self.again = lines, error, again
        roots = (sndqn.__path__[0], stable_baselines3.__path__[0])
        self.places = tuple(f"{root}/{part}" for root in roots for part in self.FILES)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self.line if frame.f_code.co_filename.startswith(self.places) else None

    def line(self, frame: FrameType, event: str, argument: Any) -> Any:
        # Not at the end of a `with`, where Python lets no signal in before the block is left.
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not source.startswith("with "):
            self.left -= 1
            if self.left == 0:
                self.left, self.again = self.again, 0
                raise self.error
        return self.line

    def __enter__(self) -> "StopAfter":
        self.before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self.before)


class ReturnsFalse(BaseCallback):
    """Ends training at a step, as every callback may."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def _on_step(self) -> bool:
        return self.n_calls < self.calls


def make(env: VecEnv, **kwargs: Any) -> sndqn.DQN:
    policy = "SNMultiInputPolicy" if hasattr(env.observation_space, "spaces") else "SNMlpPolicy"
    settings: dict[str, Any] = {
        "learning_starts": 6,
        "buffer_size": 100_000,
        "batch_size": 4,
        "train_freq": 2,
        "gamma": GAMMA,
        "device": "cpu",
        "seed": 0,
        "compile": False,
        "exploration_initial_eps": 0.5,
        "policy_kwargs": {"net_arch": [4]},
        **kwargs,
    }
    return sndqn.DQN(policy, env, **settings)


def transitions(model: sndqn.DQN) -> list[tuple[Any, ...]]:
    """Gives (observation, action, reward, next observation, done) of all that is stored."""
    replay: Any = model.replay_buffer
    indices, envs = np.divmod(np.arange(replay.size() * replay.n_envs), replay.n_envs)
    if hasattr(replay, "gather"):
        found = replay.gather(indices, envs)
        arrays = [getattr(found, n).numpy() for n in found._fields[:5]]
        order = [arrays[0], arrays[1][:, 0], arrays[4][:, 0], arrays[2], arrays[3][:, 0]]
    else:

        def flat(part: Any) -> np.ndarray:
            rows = part["a"] if isinstance(part, dict) else part
            return np.asarray(rows[indices, envs])

        done = flat(replay.dones) * (1 - flat(replay.timeouts))
        order = [
            flat(replay.observations),
            flat(replay.actions)[:, 0],
            flat(replay.rewards),
            flat(replay.next_observations),
            done,
        ]
    return list(zip(*order, strict=True))


def check(model: sndqn.DQN) -> int:
    """Checks that every stored transition was made, and is there once; counts them."""
    seen: set[tuple[int, ...]] = set()
    found = transitions(model)
    for before, action, worth, following, done in found:
        number, game, t, history = decode(before)
        assert (number, game, t) not in seen, "counted twice"
        seen.add((number, game, t))
        ends = game % 2 == 0 and t + model.n_steps >= length(game)
        if model.n_steps == 1:
            ends = game % 2 == 0 and t + 1 == length(game)
            assert bool(done) == ends, (game, t)
            assert worth == reward(game, t), (game, t)
        if not done:
            other, same, later, told = decode(following)
            assert (other, same) == (number, game)
            assert 0 < later - t <= model.n_steps
            returns = sum(GAMMA**k * reward(game, t + k) for k in range(later - t))
            assert worth == pytest.approx(returns)
            if later == t + 1:
                assert told == (history * 31 + int(action) + 1) % 251, "another action"
        else:
            assert ends
    return len(found)


def stop_often(model: sndqn.DQN, stops: int, seed: int) -> int:
    """Trains, stopped at random places, and checks the replay each time; counts the stops."""
    draw = random.Random(seed)
    made = 0
    while made < stops:
        going_on = made == 0 or draw.random() < 0.8
        if draw.random() < 0.2:
            model.learn(60, ReturnsFalse(draw.randint(1, 9)), reset_num_timesteps=not going_on)
        else:
            error = draw.choice([KeyboardInterrupt, Stop])
            again = draw.randint(1, 60) if draw.random() < 0.3 else 0
            try:
                with StopAfter(draw.randint(1, 1500), error, again):
                    model.learn(60, reset_num_timesteps=not going_on)
                continue
            except (KeyboardInterrupt, Stop, TrainingError):
                pass  # a journal gives what its environments raise as a TrainingError
        made += 1
        model.learn(draw.randint(1, 12), reset_num_timesteps=False)
        check(model)
    return made


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "waiting": {"overlap": False},
    "n-step": {"n_steps": 3},
    "prioritised": {"prioritized": True},
    "stock replay": {"replay_buffer_class": ReplayBuffer},
    "short": {"buffer_size": 14},
}


def combinations() -> list[tuple[str, str]]:
    both = [(vector, kind) for vector in VECTORS for kind in KINDS]
    one_array = {"n-step", "prioritised", "stock replay"}
    return [(v, k) for v, k in both if not (v == "dictionary" and k in one_array)]


@pytest.mark.parametrize("index", range(len(VECTORS)))
def test_training_stopped_anywhere_goes_on_without_a_wrong_transition(index: int) -> None:
    vector, kind = list(VECTORS)[index], list(KINDS)[index % len(KINDS)]
    if (vector, kind) not in combinations():
        kind = "plain"
    env = VECTORS[vector]()
    model = make(env, **KINDS[kind])
    stop_often(model, 4, seed=index)
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize(("vector", "kind"), combinations())
def test_hundreds_of_stops_leave_no_wrong_transition(vector: str, kind: str) -> None:
    env = VECTORS[vector]()
    model = make(env, **KINDS[kind])
    made = stop_often(model, 20, seed=combinations().index((vector, kind)))
    assert made == 20
    env.close()


class Meddles(BaseCallback):
    """Plays on the training environments, as `EvalCallback` does that was given them."""

    def __init__(self, how: str, every: int = 7) -> None:
        super().__init__()
        self.how, self.every = how, every

    def _on_step(self) -> bool:
        if self.n_calls % self.every == 0:
            env = self.training_env
            if self.how != "steps":
                env.reset()
            for _ in range(0 if self.how == "resets" else 3):
                env.step(self.locals["actions"])
        return True


@pytest.mark.parametrize("how", ["steps", "resets", "plays"])
@pytest.mark.parametrize("vector", ["dummy", "stacked", "normalised", "small", "subproc"])
def test_a_callback_may_play_on_the_training_environments(vector: str, how: str) -> None:
    env = VECTORS[vector]()
    model = make(env, n_steps=2).learn(80, Meddles(how))
    assert check(model) == model.num_timesteps == 80
    env.close()


@pytest.mark.parametrize("vector", ["dummy", "stacked", "small stacked", "journal"])
def test_playing_between_two_trainings_wrongs_no_transition(vector: str) -> None:
    env = VECTORS[vector]()
    model = make(env).learn(30)
    assert model.env is not None
    observations = model.env.reset()
    for _ in range(5):
        observations, *_ = model.env.step(model.predict(observations)[0])
    model.learn(30, reset_num_timesteps=False)
    assert check(model) == model.num_timesteps == 64


def test_the_step_at_which_a_callback_stops_is_stored_and_the_next_follows_it() -> None:
    model = make(VECTORS["stacked"]())
    model.learn(100, ReturnsFalse(7))
    assert check(model) == model.num_timesteps == 14
    model.learn(20, reset_num_timesteps=False)
    assert check(model) == model.num_timesteps == 34
    games = {decode(before)[:2] for before, *_ in transitions(model)}
    ends = sum(1 for before, *_ in transitions(model) if decode(before)[2] == 0)
    assert ends == len(games), "no game was left on the way"


def test_hindsight_replay_learns_while_its_environments_are_other_processes() -> None:
    env = SubprocVecEnv([Goals, Goals])
    model = sndqn.DQN(
        "SNMultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        learning_starts=30,
        buffer_size=500,
        device="cpu",
        seed=0,
    )
    model.learn(100)
    assert model._n_updates > 0
    env.close()


def test_environments_that_ctrl_c_has_ended_are_said_to_have_ended() -> None:
    env = SubprocVecEnv(echoes())
    model = make(env).learn(20)
    for process in env.processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)  # as a terminal sends it to all processes of a job
        process.join()
    with pytest.raises((OSError, EOFError)):
        model.learn(20, reset_num_timesteps=False)
    with pytest.raises(TrainingError, match="set_env"):
        model.learn(20, reset_num_timesteps=False)
    model.set_env(VECTORS["dummy"]())
    model.learn(20, reset_num_timesteps=False)


class Watched(AtariVecEnv):
    """Writes down the transitions that the emulators made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.made: set[tuple[bytes, int, bytes]] = set()
        self.shown: Any = None
        super().__init__(*args, **kwargs)

    def _restart(self, *args: Any) -> Any:
        self.shown = super()._restart(*args)
        return self.shown

    def step_wait(self) -> Any:
        result = super().step_wait()
        observations, _, dones, infos = result
        for i, done in enumerate(dones):
            after = infos[i]["terminal_observation"] if done else observations[i]
            self.made.add((self.shown[i].tobytes(), int(self.actions[i]), after.tobytes()))
        self.shown = observations
        return result


@pytest.mark.parametrize("overlap", [True, False])
def test_atari_goes_on_wherever_it_was_stopped(overlap: bool) -> None:
    settings = resolve_env("Breakout")
    assert isinstance(settings, AtariSettings)
    env = Watched(replace(settings, screen_size=36), 2)
    model = make(env, overlap=overlap, learning_starts=10)
    draw = random.Random(0)
    for _ in range(8):
        with suppress(KeyboardInterrupt), StopAfter(draw.randint(1, 900), KeyboardInterrupt):
            model.learn(60, reset_num_timesteps=False)
    model.learn(10, reset_num_timesteps=False)
    found = transitions(model)
    assert len(found) > 30
    for before, action, _, following, done in found:
        if not done:
            assert (before.tobytes(), int(action), following.tobytes()) in env.made


def test_several_tasks_that_were_stopped_go_on_together() -> None:
    models = [make(VECTORS["small"]()), make(VECTORS["dummy"]())]
    tasks = MultiTask(models)
    draw = random.Random(0)
    for _ in range(6):
        with suppress(KeyboardInterrupt), StopAfter(draw.randint(1, 2500), KeyboardInterrupt):
            tasks.learn(60, reset_num_timesteps=False)
        tasks.learn(6, reset_num_timesteps=False)
        for model in models:
            check(model)
    assert all(model.num_timesteps >= 36 for model in models)
