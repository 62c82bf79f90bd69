"""PrioritizedFrameRing: its law of sampling, its weights, and FrameRing's transitions."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from histories import RandomGames, played
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecNormalize
from test_frame_ring_in_use import cart_pole, run_dqn

from sndqn.errors import ConfigError
from sndqn.replay import Batch, FrameRing, PrioritizedFrameRing

ACTIONS = spaces.Discrete(3)
SPACE = spaces.Box(-9, 9, (4,), np.float32)


def played_ring(
    steps: int, buffer_size: int, n_envs: int = 1, **options: Any
) -> PrioritizedFrameRing:
    games = RandomGames(SPACE, n_envs)
    ring = PrioritizedFrameRing(buffer_size, SPACE, ACTIONS, "cpu", n_envs, **options)
    for _ in range(steps):
        ring.add(*games.step())
    return ring


def add_one(ring: PrioritizedFrameRing) -> None:
    ring.add(*RandomGames(SPACE, ring.n_envs, seed=1).step())


def stored(ring: PrioritizedFrameRing) -> Any:
    return np.arange(ring.size() * ring.n_envs)


def priorities(ring: PrioritizedFrameRing) -> Any:
    return ring._tree.get(stored(ring))


def with_errors(ring: PrioritizedFrameRing, seed: int = 0) -> Any:
    """Gives every transition an error of its own; returns them."""
    errors = np.random.default_rng(seed).exponential(size=len(stored(ring))) * 3
    ring.update_priorities(stored(ring), errors)
    return errors


def law(errors: Any, exponent: float) -> Any:
    """P(i) of the paper, in float64."""
    powers = (errors + 1e-6) ** exponent
    return powers / powers.sum()


def sampled(ring: PrioritizedFrameRing, size: int, seed: int = 0) -> Batch:
    np.random.seed(seed)
    return ring.sample(size)


def assert_follows(counts: Any, expected: Any) -> None:
    """Pearson's statistic is at most 5 standard deviations above its mean under the law."""
    statistic, freedom = ((counts - expected) ** 2 / expected).sum(), len(counts) - 1
    assert statistic < freedom + 5 * np.sqrt(2 * freedom)


def counted(ring: PrioritizedFrameRing, batch_size: int, n_batches: int) -> Any:
    np.random.seed(0)
    counts = np.zeros(len(stored(ring)))
    for _ in range(n_batches):
        ring.sample(batch_size)
        np.add.at(counts, ring.sampled, 1)
    return counts


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0])
def test_transitions_are_drawn_in_proportion_to_their_priorities(
    exponent: float, n_envs: int
) -> None:
    ring = played_ring(20, 20 * n_envs, n_envs, priority_exponent=exponent)
    expected = law(with_errors(ring), exponent)
    # Draws one at a time are independent, which the statistic's law supposes.
    assert_follows(counted(ring, 1, 6000), 6000 * expected)


def test_any_part_of_a_large_sample_is_drawn_in_proportion_too() -> None:
    ring = played_ring(30, 30, priority_exponent=1.0)
    expected = law(with_errors(ring), 1.0)
    np.random.seed(0)
    counts = np.zeros(30)
    for _ in range(2000):
        ring.sample(80)
        np.add.at(counts, ring.sampled[:10], 1)
    assert_follows(counts, 20_000 * expected)


def test_a_sample_takes_one_transition_from_each_equal_part_of_the_sum() -> None:
    ring = played_ring(100, 100, priority_exponent=1.0)
    upper = law(with_errors(ring), 1.0).cumsum()
    lower = np.concatenate([[0], upper[:-1]])
    for seed in range(50):
        sampled(ring, 32, seed)
        leaves, parts = np.sort(ring.sampled), np.arange(32)
        assert (lower[leaves] <= (parts + 1) / 32 + 1e-12).all()
        assert (upper[leaves] >= parts / 32 - 1e-12).all()


def test_with_priority_exponent_zero_sampling_is_uniform_and_weights_are_one() -> None:
    ring = played_ring(25, 50, 2, priority_exponent=0.0)
    with_errors(ring)
    ring.beta = 0.7
    assert_follows(counted(ring, 1, 5000), np.full(50, 100))
    weights = sampled(ring, 64).weights
    assert weights is not None
    assert bool((weights == 1).all())


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_weights_are_the_papers_over_their_maximum_in_the_sample(n_envs: int, beta: float) -> None:
    ring = played_ring(15, 40 * n_envs, n_envs, priority_exponent=0.6)
    chances = law(with_errors(ring), 0.6)
    ring.beta = beta
    weights = sampled(ring, 16).weights
    unscaled = (15 * n_envs * chances[ring.sampled]) ** -beta
    assert weights is not None
    assert weights.dtype == torch.float32
    assert weights.shape == (16, 1)
    np.testing.assert_allclose(weights[:, 0], unscaled / unscaled.max(), rtol=1e-6)


def test_the_exponents_are_rainbows_unless_given() -> None:
    ring = played_ring(0, 10)
    assert (ring.priority_exponent, ring.importance_exponent, ring.beta) == (0.5, 0.4, 0.4)


def test_stored_priorities_are_the_power_of_the_error_plus_a_millionth() -> None:
    ring = played_ring(4, 4, priority_exponent=0.5)
    ring.update_priorities(np.arange(3), np.array([0.0, 4.0, -9.0]))
    np.testing.assert_allclose(priorities(ring), [1e-3, 2, 3, 1], rtol=1e-6)


def test_errors_may_be_tensors_of_any_precision_with_a_gradient() -> None:
    ring = played_ring(4, 4, priority_exponent=1.0)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        errors = torch.tensor([[0.5], [2.0]], dtype=dtype, requires_grad=True)
        ring.update_priorities(np.array([1, 3]), errors)
        np.testing.assert_allclose(priorities(ring), [1, 0.5, 1, 2], rtol=1e-5)


def test_a_new_transition_gets_the_largest_priority_seen_so_far() -> None:
    ring = played_ring(10, 100, 2, priority_exponent=0.5)
    np.testing.assert_array_equal(priorities(ring), np.ones(10 * 2))
    ring.update_priorities(np.array([4]), np.array([16.0]))
    ring.update_priorities(np.arange(20), np.full(20, 0.01))  # the largest is gone but was seen
    add_one(ring)
    np.testing.assert_allclose(priorities(ring), [0.1] * 20 + [4, 4], rtol=1e-4)


def test_a_new_transition_is_in_the_very_next_sample_after_large_errors() -> None:
    ring = played_ring(50, 100, priority_exponent=1.0)
    ring.update_priorities(np.array([0]), np.array([10.0]))
    ring.update_priorities(np.arange(50), np.full(50, 1e-3))
    add_one(ring)
    sampled(ring, 4)
    assert 50 in ring.sampled


def test_an_overwritten_slot_gets_the_largest_priority_again_and_no_other_changes() -> None:
    ring = played_ring(12, 20, 2, priority_exponent=1.0)  # 10 a environment: two came around
    ring.update_priorities(np.arange(20), np.arange(2.0, 22.0))
    add_one(ring)
    expected = np.arange(2.0, 22.0)
    expected[[4, 5]] = 21
    np.testing.assert_allclose(priorities(ring), expected, rtol=1e-5)


def test_only_stored_transitions_are_drawn() -> None:
    ring = played_ring(3, 1000, 2)
    sampled(ring, 500)
    assert set(ring.sampled.tolist()) == set(range(6))
    assert ring.sampled.dtype == np.int64


def test_a_transition_that_the_ring_refuses_gets_no_priority() -> None:
    space, no = spaces.Box(-9, 9, (4,)), np.zeros(1)
    ring = PrioritizedFrameRing(100, space, ACTIONS, "cpu", frame_stack=2)
    with pytest.raises(ConfigError, match="frame_stack=2"):
        ring.add(np.array([[1, 2, 3, 4]]), np.array([[2, 3, 4, 5]]), no, no, no, [{}])
    assert ring._tree.total == 0


def assert_equal_batches(one: Any, other: Any) -> None:
    """Of what both have: everything of Stable-Baselines3's samples."""
    for name in ("observations", "actions", "next_observations", "dones", "rewards", "discounts"):
        value, expected = getattr(one, name), getattr(other, name)
        assert value is expected is None or torch.equal(value, expected), name


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("frame_stack", [1, 4])
def test_the_transitions_are_those_that_frame_ring_gives_for_the_leaves(
    frame_stack: int, n_steps: int, n_envs: int
) -> None:
    space = spaces.Box(0, 255, (4, 2, 2), np.uint8)
    games = RandomGames(space, n_envs, frame_stack)
    options: dict[str, Any] = {"frame_stack": frame_stack, "n_steps": n_steps}
    ring = PrioritizedFrameRing(50, space, ACTIONS, "cpu", n_envs, **options)
    plain = FrameRing(50, space, ACTIONS, "cpu", n_envs, **options)
    for seed in range(70):
        step = games.step()
        ring.add(*step)
        plain.add(*step)
        batch = sampled(ring, 32, seed)
        ring.update_priorities(ring.sampled, batch.rewards)
        indices, envs = np.divmod(ring.sampled, n_envs)
        assert_equal_batches(batch, plain.gather(indices, envs))
        assert batch.random is None


@pytest.mark.parametrize("n_steps", [1, 3])
def test_vec_normalize_normalises_as_in_frame_ring(n_steps: int) -> None:
    env = VecNormalize(cart_pole())
    ring = PrioritizedFrameRing(200, env.observation_space, ACTIONS, "cpu", 3, n_steps=n_steps)
    for step in played(env, 100):
        ring.add(*step)
    batch = ring.sample(32, env)
    indices, envs = np.divmod(ring.sampled, 3)
    assert_equal_batches(batch, FrameRing.gather(ring, indices, envs, env))
    assert not torch.equal(batch.observations, ring.gather(indices, envs).observations)
    assert batch.weights is not None


def test_the_same_seed_gives_the_same_samples_and_another_does_not() -> None:
    ring = played_ring(50, 60)
    with_errors(ring)
    first = sampled(ring, 32, seed=5)
    leaves = ring.sampled
    again = sampled(ring, 32, seed=5)
    np.testing.assert_array_equal(ring.sampled, leaves)
    assert_equal_batches(first, again)
    sampled(ring, 32, seed=6)
    assert not np.array_equal(ring.sampled, leaves)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda ring: pickle.loads(pickle.dumps(ring))])  # noqa: S301
def test_a_copied_ring_keeps_priorities_and_goes_on_alike(copied: Any) -> None:
    ring = played_ring(70, 120, 2, n_steps=2, priority_exponent=0.7)
    with_errors(ring)
    ring.beta = 0.9
    other = copied(ring)
    for _ in range(3):
        one, two = sampled(ring, 32), sampled(other, 32)
        assert_equal_batches(one, two)
        assert one.weights is not None
        assert two.weights is not None
        assert torch.equal(one.weights, two.weights)
        for each in (ring, other):
            each.update_priorities(each.sampled, one.rewards)
            add_one(each)
        np.testing.assert_array_equal(priorities(ring), priorities(other))
    before = priorities(ring)
    other.update_priorities(stored(other), np.full(120, 50.0))
    np.testing.assert_array_equal(priorities(ring), before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_errors_that_are_not_finite_are_refused_and_change_nothing(bad: float) -> None:
    ring = played_ring(10, 10)
    before = with_errors(ring)
    errors = np.full(10, 100.0)
    errors[7] = bad
    for given in (errors, torch.tensor(errors, dtype=torch.float32)):
        with pytest.raises(ValueError, match=f"expected finite errors, found {bad} in row 7"):
            ring.update_priorities(np.arange(10), given)
    np.testing.assert_allclose(priorities(ring), np.sqrt(before + 1e-6))
    add_one(ring)
    assert priorities(ring)[0] < np.sqrt(100)


def test_a_mean_loss_for_a_whole_sample_is_refused() -> None:
    ring = played_ring(10, 10)
    with pytest.raises(ValueError, match="expected an error per leaf, 10, found 1"):
        ring.update_priorities(np.arange(10), torch.tensor(1.0))


def test_leaves_without_a_transition_are_refused_and_nothing_changes() -> None:
    ring = played_ring(10, 20)
    with pytest.raises(ValueError, match="an empty one"):
        ring.update_priorities(np.array([0, 10]), np.full(2, 9.0))
    np.testing.assert_array_equal(priorities(ring), np.ones(10))


def test_a_reset_ring_starts_anew() -> None:
    ring = played_ring(30, 40, 2)
    with_errors(ring)
    sampled(ring, 8)
    ring.reset()
    assert len(ring.sampled) == 0
    with pytest.raises(ValueError, match="expected a priority above 0"):
        ring.sample(1)
    add_one(ring)
    np.testing.assert_array_equal(priorities(ring), np.ones(2))


@pytest.mark.parametrize("name", ["priority_exponent", "importance_exponent"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_exponents_out_of_range_are_refused(name: str, value: float) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=f"{name}: expected a number from 0 to 1"):
        played_ring(0, 10, **options)


def test_the_tree_counts_as_memory_of_the_ring() -> None:
    ring, plain = played_ring(0, 10_000), FrameRing(10_000, SPACE, ACTIONS, "cpu")
    extra = ring.nbytes_per_transition - plain.nbytes_per_transition
    assert 8 <= extra < 8.2


def test_sb3s_dqn_trains_from_it_and_saves_it(tmp_path: Any) -> None:
    model = run_dqn(cart_pole(), "MlpPolicy", replay_buffer_class=PrioritizedFrameRing)
    ring = model.replay_buffer
    assert isinstance(ring, PrioritizedFrameRing)
    with_errors(ring)
    model.save_replay_buffer(tmp_path / "replay")
    other = DQN("MlpPolicy", cart_pole(), device="cpu")
    other.load_replay_buffer(tmp_path / "replay")
    loaded = other.replay_buffer
    assert isinstance(loaded, PrioritizedFrameRing)
    assert_equal_batches(sampled(ring, 32), sampled(loaded, 32))
    np.testing.assert_array_equal(priorities(loaded), priorities(ring))
