import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sndqn.envs import make_env, make_vec_env
from sndqn.envs.vector import SmallVecEnv, derive_seeds
from sndqn.errors import ConfigError


class DictEnv(gymnasium.Env):
    """Counts; writes its observation into one array, as careless environments do."""

    observation_space = spaces.Dict(
        {"count": spaces.Box(0, 100, (2,), np.float32), "parity": spaces.Discrete(2)}
    )
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.count = np.zeros(2, np.float32)

    def observe(self):
        return {"count": self.count, "parity": int(self.count[0]) % 2}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count[:] = 0 if options is None else options["from"]
        return self.observe(), {"fresh": True}

    def step(self, action):
        self.count += [1, action]
        return self.observe(), 0.1, bool(self.count[0] >= 5), False, {}


class TidyDictEnv(DictEnv):
    """Gives out new arrays; SB3's terminal observations are wrong where they are reused."""

    def observe(self):
        return {**super().observe(), "count": self.count.copy()}


def is_same(first, second):
    """Compare nested dicts, lists, arrays and numbers, but for Monitor's times."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            is_same(first[key], second[key]) for key in first if key != "t"
        )
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(is_same, first, second))
    return np.array_equal(first, second) and np.asarray(first).dtype == np.asarray(second).dtype


@pytest.mark.parametrize("name", ["CartPole", "LunarLander", "Taxi-v4", "MinAtar/Asterix", "dict"])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_results_are_those_of_dummy_vec_env_around_monitor(name, n_envs):
    def make():
        return TidyDictEnv() if name == "dict" else make_env(name)

    lean = SmallVecEnv([make() for _ in range(n_envs)])
    dummy = DummyVecEnv([lambda: Monitor(make())] * n_envs)
    lean.seed(3)
    dummy._seeds = list(lean._seeds)
    observations, expected = lean.reset(), dummy.reset()
    assert is_same(observations, dict(expected) if name == "dict" else expected)
    assert is_same(lean.reset_infos, dummy.reset_infos)
    rng = np.random.default_rng(0)
    games = 0
    for actions in rng.integers(lean.action_space.n, size=(600, n_envs)):
        results, expected = lean.step(actions), dummy.step(actions)
        expected = (dict(expected[0]) if name == "dict" else expected[0], *expected[1:])
        assert is_same(results, expected)
        games += sum("episode" in info for info in results[3])
    assert games >= 2
    assert is_same(lean.reset_infos, dummy.reset_infos)


def test_a_time_limit_is_a_truncation():
    vec_env = SmallVecEnv([TimeLimit(DictEnv(), 3), TimeLimit(DictEnv(), 5)])
    vec_env.reset()
    ends = [vec_env.step(np.zeros(2, int)) for _ in range(5)]
    assert ends[2][2].tolist() == [True, False]
    assert ends[2][3][0]["TimeLimit.truncated"]
    # Terminated and truncated in one step: terminated, as in SB3.
    assert ends[4][2].tolist() == [False, True]
    assert not ends[4][3][1]["TimeLimit.truncated"]


def test_arrays_handed_out_are_never_written_to_again():
    vec_env = SmallVecEnv([DictEnv()])
    kept = [vec_env.reset()["count"]]
    terminal = None
    for _ in range(7):
        observations, _, dones, infos = vec_env.step(np.array([1]))
        kept.append(observations["count"])
        if dones[0]:
            terminal = infos[0]["terminal_observation"]
    assert [int(rows[0, 0]) for rows in kept] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert terminal["count"].tolist() == [5, 5]


def test_options_reach_the_environments_once():
    vec_env = SmallVecEnv([DictEnv(), DictEnv()])
    vec_env.set_options({"from": 3})
    assert vec_env.reset()["count"].tolist() == [[3, 3], [3, 3]]
    assert not vec_env.reset()["count"].any()


@pytest.mark.parametrize("name", ["CartPole", "MinAtar/Asterix"])
def test_some_environments_can_restart_seeded_while_the_others_go_on(name):
    vec_env = make_vec_env(name, 3, seed=0)
    vec_env.reset()
    before = vec_env.step(np.zeros(3, int))[0]
    observations = vec_env.reset_envs([2, 0], [7, 8])
    assert np.array_equal(observations[1], before[1])
    alone = make_env(name)
    assert np.array_equal(observations[2], alone.reset(seed=7)[0])
    stepped = vec_env.step(np.ones(3, int))[0]
    assert np.array_equal(stepped[2], alone.step(1)[0])


def test_seeds_differ_between_environments_and_neighbouring_seeds():
    seeds = [derive_seeds(seed, 50) for seed in range(20)]
    assert len({value for group in seeds for value in group}) == 1000
    assert all(0 <= value < 2**31 for group in seeds for value in group)
    assert derive_seeds(3, 8)[:2] == derive_seeds(3, 2)
    with pytest.raises(ConfigError, match="0 or more"):
        derive_seeds(-1, 2)


def test_attributes_and_methods_reach_the_environments():
    vec_env = make_vec_env("CartPole", 2)
    assert vec_env.get_attr("gravity") == [9.8, 9.8]
    vec_env.set_attr("gravity", 5.0, indices=1)
    assert vec_env.get_attr("gravity") == [9.8, 5.0]
    assert vec_env.envs[1].unwrapped.gravity == 5.0
    assert vec_env.env_method("has_wrapper_attr", "gravity", indices=[0]) == [True]
    assert vec_env.env_is_wrapped(TimeLimit) == [True, True]
    assert vec_env.env_is_wrapped(Monitor, indices=0) == [True]
    assert vec_env.env_is_wrapped(gymnasium.wrappers.ClipReward) == [False, False]
    assert not vec_env.has_attr("no_such_thing")
    vec_env.close()


def test_it_renders_what_its_environments_render():
    vec_env = SmallVecEnv([make_env("MinAtar/Breakout", render_mode="rgb_array") for _ in "ab"])
    vec_env.reset()
    assert vec_env.render().shape == (20, 10, 3)


def test_one_environment_given_twice_is_refused():
    env = make_env("CartPole")
    with pytest.raises(ConfigError, match="made separately"):
        SmallVecEnv([env, env])
    with pytest.raises(ConfigError, match="one or more"):
        SmallVecEnv([])


def test_sb3_learns_and_evaluates_on_it_without_a_warning():
    vec_env = make_vec_env("CartPole", 2, seed=0)
    model = DQN("MlpPolicy", vec_env, learning_starts=20, seed=0)
    assert model.get_env() is vec_env
    model.learn(100)
    assert len(model.ep_info_buffer) > 1
    evaluate_policy(model, make_vec_env("CartPole", 2, seed=1, training=False), 2)
