"""In a small world whose values are known, every algorithm learns them."""

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from variants import ALGORITHMS, SIZES

from sndqn.algorithms.target_network import sync_target
from sndqn.diagnostics import certified_bound, layer_norms
from sndqn.policies import mlp

Array = NDArray[Any]
GAMMA = 0.9
END = 5
# Where each of two actions leads, and what it pays, in states 0 to 4; two ways lead in circles.
NEXT = np.array([[1, 2], [3, 0], [3, 4], [END, 1], [4, END]])
REWARD = np.array([[0.0, 0.5], [1.0, -0.5], [-1.0, 0.0], [1.0, -1.0], [-0.2, 0.5]])
# The same in a world where actions make no difference.
ONE_WAY = np.array([[1, 1], [2, 2], [3, 3], [4, 4], [END, END]])
TOLL = np.array([[0.5, 0.5], [-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [0.8, 0.8]])

# Updates of the target network in which values reach back from the end.
ROUNDS = {"DQN": 8, "C51": 8, "QRDQN": 8, "IQN": 12}


class World(gym.Env[Any, Any]):
    """Starts anywhere; with probability `slip` the other action is carried out."""

    observation_space = spaces.Discrete(5)
    action_space = spaces.Discrete(2)

    def __init__(self, successors: Array = NEXT, rewards: Array = REWARD, slip: float = 0.0):
        self.successors, self.rewards, self.slip = successors, rewards, slip

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(END))
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        way = self.state, (1 - action if self.np_random.random() < self.slip else action)
        state, reward = int(self.successors[way]), float(self.rewards[way])
        self.state = state % END
        return self.state, reward, state == END, False, {}


def backup(world: World, rewards: Array, values: Array) -> Array:
    """Gives r + γ V(s'), expected over slips; values of states 0 to 4, the end is worth nothing."""
    return outcome(world, rewards + GAMMA * np.append(values, 0.0)[world.successors])


def outcome(world: World, table: Array) -> Array:
    return (1 - world.slip) * table + world.slip * table[:, ::-1]


def optimal_values(world: World) -> Array:
    """Value iteration."""
    q = np.zeros((END, 2))
    for _ in range(300):
        q = backup(world, world.rewards, q.max(axis=1))
    return q


def munchausen_values(world: World, scale: float, temperature: float) -> Array:
    """Soft value iteration with a share of the log-policy as a reward, which is cut at -1."""
    q = np.zeros((END, 2))
    for _ in range(300):
        log_policy = q / temperature - np.logaddexp(*q.T / temperature)[:, None]
        entropy = -temperature * log_policy
        values = (np.exp(log_policy) * (q + entropy)).sum(axis=1)
        last, q = q, backup(world, world.rewards, values) + scale * np.maximum(-entropy, -1)
    assert np.abs(q - last).max() < 1e-12, "the fixed point"
    return q


def learnt(
    world: World,
    algorithm: str,
    *,
    rounds: int | None = None,
    updates: int = 40,
    batch_size: int = 32,
    n_steps_of_world: int = 1500,
    **flags: Any,
) -> tuple[Array, Any]:
    """Gives the Q-values learnt from random steps, by updates between target syncs; the model."""
    policy = {"net_arch": [32, 32], **flags.pop("policy_kwargs", {})}
    limits = {"C51": {"n_atoms": 51, "v_min": -3.0, "v_max": 3.0}}
    settings: dict[str, Any] = {
        "seed": 0,
        "device": "cpu",
        "gamma": GAMMA,
        "learning_rate": 5e-3,
        "buffer_size": n_steps_of_world,
        "learning_starts": n_steps_of_world,
        "compile": False,
        "policy_kwargs": policy,
        **SIZES[algorithm],
        **limits.get(algorithm, {}),
        **flags,
    }
    model = ALGORITHMS[algorithm]("SNMlpPolicy", world, **settings).learn(n_steps_of_world)
    for _ in range(rounds or ROUNDS[algorithm]):
        model.train(updates, batch_size)
        sync_target(model.q_net, model.q_net_target)
    with torch.no_grad():
        return model.q_net(torch.arange(END)).numpy(), model


def error(q: Array, truth: Array) -> float:
    """The largest error in parts of the largest value."""
    return float(np.abs(q - truth).max() / np.abs(truth).max())


slow = pytest.mark.slow
WITHOUT_SN = {"policy_kwargs": {"sn_layers": "none"}}
DUELING = {"policy_kwargs": {"dueling": True}}
# Features for IQN to multiply by its embedding, which a one-hot state has but one of.
TORSO = {
    "features_extractor_class": mlp,
    "features_extractor_kwargs": {"features_dim": 32},
    "net_arch": [32],
}
CASES: list[Any] = [
    ("DQN", {}),
    ("DQN", WITHOUT_SN),
    ("DQN", {"double": True}),
    ("DQN", {"prioritized": True}),
    ("DQN", DUELING),
    ("C51", {}),
    ("QRDQN", {}),
    ("IQN", {}),
    *[
        pytest.param(algorithm, flags, marks=slow)
        for algorithm in ("C51", "QRDQN", "IQN")
        for flags in (WITHOUT_SN, {"double": True}, {"prioritized": True}, DUELING)
    ],
]


@pytest.mark.parametrize(("algorithm", "flags"), CASES)
def test_q_is_that_of_value_iteration(algorithm: str, flags: dict[str, Any]) -> None:
    world = World()
    q, _ = learnt(world, algorithm, **flags)
    assert error(q, optimal_values(world)) < 0.05


@pytest.mark.parametrize(
    ("algorithm", "scale", "temperature"),
    [
        ("DQN", 0.5, 0.3),
        ("IQN", 0.9, 0.03),
        pytest.param("DQN", 0.9, 0.03, marks=slow),
        pytest.param("QRDQN", 0.9, 0.03, marks=slow),
        pytest.param("QRDQN", 0.5, 0.3, marks=slow),
        pytest.param("IQN", 0.5, 0.3, marks=slow),
    ],
)
def test_munchausen_q_is_that_of_soft_value_iteration_with_the_log_policy(
    algorithm: str, scale: float, temperature: float
) -> None:
    world = World()
    settings: dict[str, Any] = {"munchausen_scale": scale, "munchausen_temperature": temperature}
    q, _ = learnt(world, algorithm, munchausen=True, **settings)
    truth = munchausen_values(world, scale, temperature)
    assert error(q, truth) < 0.05
    assert error(truth, optimal_values(world)) > 0.2, "another fixed point"


@pytest.mark.parametrize(
    ("algorithm", "flags"),
    [
        ("DQN", {}),
        pytest.param("C51", {"prioritized": True, "double": True, **DUELING}, marks=slow),
        pytest.param("QRDQN", {}, marks=slow),
        pytest.param("IQN", {"prioritized": True}, marks=slow),
    ],
)
def test_returns_of_three_steps_lead_to_the_same_q(algorithm: str, flags: dict[str, Any]) -> None:
    """Where actions make no difference: elsewhere random steps in between bias them."""
    world = World(ONE_WAY, TOLL)
    q, _ = learnt(world, algorithm, n_steps=3, **flags)
    assert error(q, optimal_values(world)) < 0.05


@slow
@pytest.mark.parametrize(
    ("algorithm", "flags"),
    [
        ("DQN", {}),
        ("DQN", {"prioritized": True}),
        ("C51", {}),
        # With a small threshold the quantiles are quantiles, and their mean is that of the return.
        ("QRDQN", {"n_quantiles": 32, "huber_threshold": 0.05}),
        ("IQN", {"n_acting_quantiles": 32, "huber_threshold": 0.05, "policy_kwargs": TORSO}),
    ],
)
def test_where_a_tenth_of_the_steps_slip_q_is_the_expected_one(
    algorithm: str, flags: dict[str, Any]
) -> None:
    world = World(slip=0.1)
    size: dict[str, Any] = {"updates": 150, "batch_size": 128, "n_steps_of_world": 6000}
    q, _ = learnt(world, algorithm, rounds=12, **size, learning_rate=7e-4, **flags)
    truth = optimal_values(world)
    assert error(q, truth) < 0.05
    assert error(optimal_values(World()), truth) > 0.1, "another world"


@pytest.mark.parametrize(
    ("algorithm", "n_outputs"), [("DQN", 1), pytest.param("QRDQN", 16, marks=slow)]
)
def test_values_further_apart_than_the_bound_allows_stay_out_of_reach(
    algorithm: str, n_outputs: int
) -> None:
    """Inputs are one-hot, √2 apart: Q-values are at most √2 times the bound on its slopes apart.

    It is the product of the layers' bounds; means over n outputs are by √n less.
    """
    world, held = World(), {"sn_layers": "all", "sn_bound": 0.6}
    q, model = learnt(world, algorithm, rounds=5, policy_kwargs=held)
    norms = layer_norms(model.q_net, model.observation_space, exact=True)
    bound = certified_bound(model.q_net, {row.name: row.effective for row in norms})
    assert bound is not None
    limit = (2 / n_outputs) ** 0.5 * bound
    assert limit == pytest.approx((2 / n_outputs) ** 0.5 * 0.6**3, rel=1e-2)
    truth = optimal_values(world)
    pairs = list(itertools.combinations(range(END), 2))
    furthest = max(float(np.linalg.norm(q[i] - q[j])) for i, j in pairs)
    assert 0.5 * limit < furthest <= limit
    assert max(float(np.linalg.norm(truth[i] - truth[j])) for i, j in pairs) > 5 * limit
    assert error(q, truth) > 0.05
