"""Temporal-difference targets against values worked out by hand and against slow loops."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sndqn import targets

REWARD = torch.tensor([1.0, -2.0, 0.5])
DISCOUNT = torch.tensor([0.9, 0.9, 0.0])  # the last transition ended its episode
NEXT_TARGET = torch.tensor([[1.0, 3.0], [-4.0, -5.0], [7.0, 8.0]])
NEXT_ONLINE = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]])


def plain_target(reward: Tensor, discount: Tensor, next_q: Tensor) -> Tensor:
    return targets.q_learning(reward, discount, next_q, next_q.argmax(dim=1))


def double_target(reward: Tensor, discount: Tensor, next_q: Tensor, online: Tensor) -> Tensor:
    return targets.q_learning(reward, discount, next_q, online.argmax(dim=1))


def test_q_learning_by_hand() -> None:
    found = plain_target(REWARD, DISCOUNT, NEXT_TARGET)
    torch.testing.assert_close(found, torch.tensor([3.7, -5.6, 0.5]))


def test_double_q_learning_values_the_online_networks_choice_by_hand() -> None:
    found = double_target(REWARD, DISCOUNT, NEXT_TARGET, NEXT_ONLINE)
    torch.testing.assert_close(found, torch.tensor([1.9, -6.5, 0.5]))


def draw(seed: int, batch: int, actions: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    reward, next_q = (
        torch.randn(batch, generator=generator),
        torch.randn(2, batch, actions, generator=generator),
    )
    return reward, torch.rand(batch, generator=generator), next_q[0], next_q[1]


cases = st.builds(draw, st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 5))


@given(cases)
def test_a_double_target_is_never_above_the_plain_one(case: tuple[Tensor, ...]) -> None:
    reward, discount, target, online = case
    plain = plain_target(reward, discount, target)
    double = double_target(reward, discount, target, online)
    assert plain.shape == double.shape == reward.shape
    assert bool((double <= plain).all())


@given(cases)
def test_equal_networks_make_the_two_targets_equal(case: tuple[Tensor, ...]) -> None:
    reward, discount, target, _ = case
    assert torch.equal(
        double_target(reward, discount, target, target),
        plain_target(reward, discount, target),
    )


@given(cases)
def test_the_end_of_an_episode_leaves_the_reward_alone(case: tuple[Tensor, ...]) -> None:
    reward, discount, target, online = case
    zero = torch.zeros_like(discount)
    assert torch.equal(plain_target(reward, zero, target), reward)
    assert torch.equal(double_target(reward, zero, target, online), reward)
    assert torch.equal(targets.quantiles(reward, zero, target), reward[:, None].expand_as(target))


def test_quantiles_move_by_hand() -> None:
    found = targets.quantiles(REWARD, DISCOUNT, NEXT_TARGET)
    # 1 + 0.9 (1, 3); -2 + 0.9 (-4, -5); 0.5 + 0
    torch.testing.assert_close(found, torch.tensor([[1.9, 3.7], [-5.6, -6.5], [0.5, 0.5]]))


TARGETS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "q_learning": lambda r, d, q, _: plain_target(r, d, q),
    "double": double_target,
    "munchausen": lambda r, d, q, p: targets.munchausen(r, d, p.argmin(1), p, q, q),
    "quantiles": lambda r, d, q, _: targets.quantiles(r, d, q),
    "categorical": lambda r, d, q, _: targets.categorical_projection(
        r, d, q.softmax(1), torch.linspace(-1, 2, q.shape[1])
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_each_sample_has_a_discount_of_its_own_as_n_step_returns_need(name: str) -> None:
    reward, _, next_q, other_q = draw(0, 6, 4)
    discount = 0.9 ** torch.tensor([1.0, 2.0, 3.0, 0.0, 1.0, 5.0])  # γ^n
    together = TARGETS[name](reward, discount, next_q, other_q)
    for i in range(6):
        row = slice(i, i + 1)
        alone = TARGETS[name](reward[row], discount[row], next_q[row], other_q[row])
        torch.testing.assert_close(together[row], alone)
    assert not torch.allclose(together, TARGETS[name](reward, 0 * discount, next_q, other_q))


class TestMunchausen:
    def test_by_hand(self) -> None:
        # τ = 1/2, so that π is the softmax of 2 Q. Q(s, ·) = (0, ½ ln 3): π = (¼, ¾).
        # Q(s', ·) = (½ ln 2, 0): π = (⅔, ⅓), and the soft value
        # ⅔ (½ ln 2 - ½ ln ⅔) + ⅓ (0 - ½ ln ⅓) = ⅔ · ½ ln 3 + ⅓ · ½ ln 3 = ½ ln 3.
        # a = 0: τ ln π = -½ ln 4 = -0.693, in [-0.6, 0] -0.6. a = 1: ½ ln ¾ = -0.144.
        q = torch.tensor([[0.0, 0.5 * math.log(3)]]).expand(3, 2)
        next_q = torch.tensor([[0.5 * math.log(2), 0.0]]).expand(3, 2)
        action = torch.tensor([0, 1, 1])
        found = targets.munchausen(
            REWARD, DISCOUNT, action, q, next_q, next_q, scale=0.8, temperature=0.5, clip=-0.6
        )
        bonus = 0.8 * 0.5 * math.log(3 / 4)
        value = 0.9 * 0.5 * math.log(3)
        expected = torch.tensor([1 - 0.8 * 0.6 + value, -2 + bonus + value, 0.5 + bonus])
        torch.testing.assert_close(found, expected)

    def test_defaults_are_the_papers(self) -> None:
        reward, discount, next_q, q = draw(1, 8, 3)
        arguments = (reward, discount, q.argmin(dim=1), q, next_q, next_q)
        paper = targets.munchausen(*arguments, scale=0.9, temperature=0.03, clip=-1.0)
        assert torch.equal(targets.munchausen(*arguments), paper)

    @given(cases, st.floats(0.01, 10), st.floats(0, 1), st.floats(-2, 0))
    def test_it_is_the_papers_sum_in_plain_numbers(
        self, case: tuple[Tensor, ...], temperature: float, scale: float, clip: float
    ) -> None:
        reward, discount, next_q, q = (t.double() for t in case)
        action = q.sum(dim=1).long() % q.shape[1]
        found = targets.munchausen(
            reward, discount, action, q, next_q, next_q,
            scale=scale, temperature=temperature, clip=clip,
        )  # fmt: skip
        for i in range(len(reward)):
            log_policy = log_softmax_by_hand(q[i].tolist(), temperature)
            bonus = max(clip, temperature * log_policy[int(action[i])])
            next_log_policy = log_softmax_by_hand(next_q[i].tolist(), temperature)
            value = sum(
                math.exp(log_p) * (value - temperature * log_p)
                for value, log_p in zip(next_q[i].tolist(), next_log_policy, strict=True)
            )
            expected = float(reward[i]) + scale * bonus + float(discount[i]) * value
            assert float(found[i]) == pytest.approx(expected, rel=1e-9, abs=1e-9)

    def test_a_hot_policy_is_uniform_and_its_log_is_cut(self) -> None:
        reward, discount, next_q, q = (t.double() for t in draw(2, 8, 4))
        found = targets.munchausen(
            reward, discount, q.argmax(dim=1), q, next_q, next_q, temperature=1e5
        )
        # τ ln ¼ is far below -1; the entropy of four equal chances is ln 4.
        expected = reward - 0.9 + discount * (next_q.mean(dim=1) + 1e5 * math.log(4))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-4)

    def test_a_cold_policy_is_greedy_and_punishes_the_gap_to_the_best_action(self) -> None:
        reward, discount, next_q, q = (t.double() for t in draw(3, 64, 4))
        action = torch.arange(64) % 4
        found = targets.munchausen(reward, discount, action, q, next_q, next_q, temperature=1e-6)
        gap = q.gather(1, action[:, None]).squeeze(1) - q.max(dim=1).values
        assert bool((gap < -1).any())
        assert bool((gap > -1).any())
        expected = plain_target(reward, discount, next_q) + 0.9 * gap.clamp_min(-1)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("gap", [1e2, 1e4, 1e6])
    def test_values_far_apart_make_no_nan(self, gap: float) -> None:
        q = torch.tensor([[0.0, gap, -gap]])
        zeros = torch.zeros(3, dtype=torch.long)
        for action, bonus in enumerate((-0.9, 0.0, -0.9)):
            arguments = (REWARD[:1], DISCOUNT[:1], zeros[:1] + action, q, q)
            found = targets.munchausen(*arguments, q)
            torch.testing.assert_close(found, torch.tensor([1 + bonus + 0.9 * gap]))
            of_quantiles = targets.munchausen(*arguments, q[..., None].expand(1, 3, 2))
            torch.testing.assert_close(of_quantiles, found[:, None].expand(1, 2))

    @given(cases, st.floats(0.03, 10), st.integers(1, 6))
    def test_the_mean_of_the_quantiles_target_is_the_target_of_their_mean(
        self, case: tuple[Tensor, ...], temperature: float, n: int
    ) -> None:
        reward, discount, next_q, q = (t.double() for t in case)
        action = q.argmin(dim=1)
        generator = torch.Generator().manual_seed(n)
        noise = torch.randn(*next_q.shape, n, generator=generator, dtype=torch.float64)
        next_quantiles = next_q[..., None] + noise - noise.mean(dim=2, keepdim=True)
        arguments = (reward, discount, action, q, next_q)
        found = targets.munchausen(*arguments, next_quantiles, temperature=temperature)
        expected = targets.munchausen(*arguments, next_q, temperature=temperature)
        assert found.shape == (len(reward), n)
        torch.testing.assert_close(found.mean(dim=1), expected)


def log_softmax_by_hand(values: list[float], temperature: float) -> list[float]:
    top = max(values)
    total = sum(math.exp((value - top) / temperature) for value in values)
    return [(value - top) / temperature - math.log(total) for value in values]


def projection_by_loop(
    reward: Tensor, discount: Tensor, probabilities: Tensor, support: Tensor
) -> Tensor:
    """Algorithm 1 of Bellemare et al., with the case it forgets: a moved atom that hits an atom."""
    n_atoms = len(support)
    v_min, v_max = float(support[0]), float(support[-1])
    spacing = (v_max - v_min) / (n_atoms - 1)
    rows = []
    for r, gamma, p in zip(reward.tolist(), discount.tolist(), probabilities.tolist(), strict=True):
        row = [0.0] * n_atoms
        for j in range(n_atoms):
            moved = min(max(r + gamma * (v_min + j * spacing), v_min), v_max)
            b = min(max((moved - v_min) / spacing, 0.0), n_atoms - 1.0)
            lower, upper = math.floor(b), math.ceil(b)
            if lower == upper:
                row[lower] += p[j]
            else:
                row[lower] += p[j] * (upper - b)
                row[upper] += p[j] * (b - lower)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


SUPPORTS = {
    "integers": torch.linspace(-10, 10, 21, dtype=torch.float64),
    "c51": torch.linspace(-10, 10, 51, dtype=torch.float64),
    "uneven": torch.linspace(-0.7, 3.1, 8, dtype=torch.float64),
    "two": torch.linspace(0, 1, 2, dtype=torch.float64),
}


def probabilities_of(seed: int, batch: int, n_atoms: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, n_atoms, generator=generator, dtype=torch.float64)
    return logits.softmax(dim=1)


class TestCategoricalProjection:
    def test_by_hand(self) -> None:
        # Atoms -1, 0, 1 go to ½ + ½ z = 0, ½, 1: the middle one shares between 0 and 1.
        # 0: 0.2 + 0.3 / 2 = 0.35; 1: 0.3 / 2 + 0.5 = 0.65.
        found = targets.categorical_projection(
            torch.tensor([0.5]),
            torch.tensor([0.5]),
            torch.tensor([[0.2, 0.3, 0.5]]),
            torch.tensor([-1.0, 0.0, 1.0]),
        )
        torch.testing.assert_close(found, torch.tensor([[0.0, 0.35, 0.65]]))

    @pytest.mark.parametrize("name", SUPPORTS)
    @given(
        seed=st.integers(0, 10**6),
        # Whole numbers land on atoms of "integers", at its ends and beyond.
        rewards=st.lists(st.floats(-30, 30) | st.integers(-25, 25), min_size=1, max_size=6),
        discount=st.floats(0, 1) | st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    )
    def test_it_is_the_papers_algorithm(
        self, name: str, seed: int, rewards: list[float], discount: float
    ) -> None:
        support = SUPPORTS[name]
        reward = torch.tensor(rewards, dtype=torch.float64)
        discounts = torch.full_like(reward, discount)
        discounts[-1] = 0.0  # an end of an episode in every batch
        probabilities = probabilities_of(seed, len(rewards), len(support))
        found = targets.categorical_projection(reward, discounts, probabilities, support)
        expected = projection_by_loop(reward, discounts, probabilities, support)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
        single = targets.categorical_projection(
            reward.float(), discounts.float(), probabilities.float(), support.float()
        )
        torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("reward", [-25.0, -10.0, -3.0, 0.0, 7.0, 10.0, 25.0])
    def test_the_end_of_an_episode_is_the_atom_of_its_reward(self, reward: float) -> None:
        support = SUPPORTS["integers"].float()
        probabilities = probabilities_of(0, 1, 21).float()
        found = targets.categorical_projection(
            torch.tensor([reward]), torch.zeros(1), probabilities, support
        )
        expected = (support == min(max(reward, -10), 10)).float()[None]
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("shift", [-3, 0, 4])
    def test_a_shift_by_whole_atoms_shifts_the_probabilities(self, shift: int) -> None:
        probabilities = torch.zeros(1, 21)
        probabilities[0, 5:15] = 0.1
        found = targets.categorical_projection(
            torch.tensor([float(shift)]), torch.ones(1), probabilities, SUPPORTS["integers"].float()
        )
        torch.testing.assert_close(found, probabilities.roll(shift, dims=1))

    @pytest.mark.parametrize("name", SUPPORTS)
    @given(seed=st.integers(0, 10**6), reward=st.floats(-100, 100), discount=st.floats(0, 1))
    def test_it_keeps_the_mass(self, name: str, seed: int, reward: float, discount: float) -> None:
        support = SUPPORTS[name].float()
        probabilities = probabilities_of(seed, 1, len(support)).float()
        found = targets.categorical_projection(
            torch.tensor([reward]), torch.tensor([discount]), probabilities, support
        )
        assert bool((found >= 0).all())
        assert float(found.sum()) == pytest.approx(1, abs=1e-5)

    @given(seed=st.integers(0, 10**6), reward=st.floats(-4, 4), discount=st.floats(0, 0.6))
    def test_away_from_the_ends_it_keeps_the_mean(
        self, seed: int, reward: float, discount: float
    ) -> None:
        support = SUPPORTS["c51"]  # moved atoms stay within 4 + 0.6 · 10
        probabilities = probabilities_of(seed, 1, 51)
        moments = torch.tensor([reward, discount], dtype=torch.float64)
        found = targets.categorical_projection(moments[:1], moments[1:], probabilities, support)
        expected = reward + discount * float(probabilities[0] @ support)
        assert float(found[0] @ support) == pytest.approx(expected, abs=1e-9)
