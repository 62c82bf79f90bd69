"""Updates on fixed memory are the eager ones, and so is their CUDA graph, where CUDA is."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from variants import FEW, VARIANTS, Variant, cartpoles, differences, held, make, state, variants

from sndqn.acceleration.capture import CapturedUpdates, FixedSamples, FixedUpdates
from sndqn.algorithms.base import CONVERGED_UPDATES
from sndqn.algorithms.target_network import sync_target
from sndqn.errors import ConfigError
from sndqn.replay import Batch, split

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
EVERY = tuple(VARIANTS)


def halving(progress_remaining: float) -> float:
    """A learning rate that falls, of numbers that float32 holds exactly."""
    return 2**-10 if progress_remaining > 0.5 else 2**-11


def filled(variant: Variant, **kwargs: Any) -> Any:
    """A model with a full replay, which counts as past the updates that are not captured."""
    told = {"learning_starts": 10**6, "learning_rate": halving, **kwargs}
    model = make(variant, cartpoles(2), **told).learn(400)
    model._n_updates = CONVERGED_UPDATES
    return model


def samples_for(model: Any) -> tuple[Any, int]:
    n = 1 if model.prioritized else 4
    return model.draw_samples(n * 16), n


def one_by_one(model: Any) -> Any:
    """The eager updates on a block's samples; they return what the last one does."""
    return lambda samples, n: [model.update(batch) for batch in split(samples, 16)][-1]


def train(model: Any, made: Any, n_updates: int) -> None:
    """Makes updates in blocks with syncs between, by a function of each block's samples."""
    np.random.seed(1)
    torch.manual_seed(1)
    done = 0
    while done < n_updates:
        model._current_progress_remaining = 1 - done / n_updates
        model._update_learning_rate(model.policy.optimizer)
        samples, n = samples_for(model)
        priorities, logs = made(samples, n)
        assert set(logs) >= {"loss"}
        if model.prioritized:
            model.replay_buffer.update_priorities(model.replay_buffer.sampled, priorities)
        done += n
        if done % 20 == 0:
            sync_target(model.q_net, model.q_net_target, tau=0.5)


@variants(EVERY, FEW)
def test_a_thousand_updates_on_fixed_memory_are_the_eager_ones_to_the_bit(variant: Variant) -> None:
    eager, fixed = filled(variant), filled(variant)
    train(eager, one_by_one(eager), 1000)
    updates = FixedUpdates(fixed.update, *samples_for(fixed))

    def made(samples: Any, n: int) -> Any:
        assert updates.accepts(samples, n)
        updates.load(samples)
        return updates.make()

    train(fixed, made, 1000)
    assert differences(state(eager.policy), state(fixed.policy)) == []
    assert fixed.policy.optimizer.learning_rates is None, "eager steps read the groups' numbers"


def test_all_that_the_updates_change_is_known() -> None:
    """Or recording them would leave it changed."""
    model = filled(("QRDQN", "munchausen"))
    updates = FixedUpdates(model.update, *samples_for(model))
    updates.load(samples_for(model)[0])
    updates.make()
    before = state(model.policy), copy.deepcopy(model.policy.optimizer.state_dict())
    kept = [tensor.clone() for tensor in updates.changed]
    for _ in range(3):
        updates.make()
    assert differences(before[0], state(model.policy))
    with torch.no_grad():
        for tensor, value in zip(updates.changed, kept, strict=True):
            tensor.copy_(value)
    assert differences(before[0], state(model.policy)) == []
    for index, entries in model.policy.optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            assert torch.equal(value, before[1]["state"][index][name]), name


def test_other_counts_forms_and_states_are_not_accepted() -> None:
    model = filled(("DQN", "plain"))
    samples, n = samples_for(model)
    updates = FixedUpdates(model.update, samples, n)
    assert updates.accepts(samples, n)
    assert not updates.accepts(samples, 2)
    assert not updates.accepts(model.draw_samples(2 * 16), n)
    assert not updates.accepts(samples._replace(rewards=samples.rewards.double()), n)
    assert not updates.accepts(samples._replace(weights=samples.rewards), n)
    model.policy.optimizer.load_state_dict(model.policy.optimizer.state_dict())
    assert not updates.accepts(samples, n), "the moments are other tensors"
    updates = FixedUpdates(model.update, samples, n)
    assert updates.accepts(samples, n)
    weight = next(model.q_net.parameters())
    weight.data = weight.detach().clone()
    assert not updates.accepts(samples, n), "a weight is elsewhere"


def test_another_optimiser_is_refused() -> None:
    model = filled(("DQN", "plain"), policy_kwargs={"optimizer_class": torch.optim.SGD})
    with pytest.raises(ConfigError, match="own policy and Adam"):
        FixedUpdates(model.update, *samples_for(model))


@needs_cuda
@variants(EVERY, FEW)
def test_a_thousand_captured_updates_are_the_eager_ones(variant: Variant) -> None:
    """On equal samples, each update from equal networks: to float32's rounding."""
    eager, captured = (filled(variant, device="cuda") for _ in range(2))
    samples, n = samples_for(captured)
    before = state(captured.policy)
    updates = CapturedUpdates(captured.update, samples, n)
    assert differences(before, state(captured.policy)) == [], "recording has changed something"
    for _ in range(1000 // n):
        samples, _ = samples_for(eager)
        captured.policy.load_state_dict(eager.policy.state_dict())
        random = torch.cuda.get_rng_state()
        one_by_one(eager)(samples, n)
        torch.cuda.set_rng_state(random)
        assert updates.run_updates(samples, n, 0) is not None
        for name, value in state(eager.policy).items():
            if "running_" not in name:  # close singular values may turn either way
                close = 1e-4 * max(float(value.abs().max()), 1e-3)
                torch.testing.assert_close(state(captured.policy)[name], value, rtol=0, atol=close)
        for layer in held(captured.policy.q_net):
            stretch = float(layer.stretch_of_vectors())
            assert float(layer.running_sigma) == pytest.approx(stretch, rel=1e-5)


@needs_cuda
def test_a_training_on_a_gpu_is_captured_where_it_is_asked_to() -> None:
    model = make(("DQN", "plain"), cartpoles(4), device="cuda", compile=True, gradient_steps=4)
    model.learn(2000)
    assert isinstance(model.acceleration.updates, CapturedUpdates)
    assert model._n_updates > 400


def random_sample(n: int, seed: int, *, weights: bool = False) -> Batch:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (2, n, 3, 4, 4), np.uint8)
    return Batch(
        observations=torch.from_numpy(images[0]),
        actions=torch.from_numpy(random.integers(0, 5, (n, 1))),
        next_observations=torch.from_numpy(images[1]),
        dones=torch.from_numpy(random.integers(0, 2, (n, 1)).astype(np.float32)),
        rewards=torch.from_numpy(random.normal(size=(n, 1)).astype(np.float32)),
        weights=torch.rand(n, 1) if weights else None,
    )


@given(st.integers(1, 5), st.integers(1, 6), st.booleans())
def test_batches_on_fixed_memory_are_those_of_split(
    size: int, n_batches: int, weights: bool
) -> None:
    n = size * n_batches
    fixed = FixedSamples(random_sample(n, 0, weights=weights), n_batches)
    addresses = [[None if t is None else t.data_ptr() for t in b] for b in fixed.batches]
    for seed in (0, 1, 2):
        samples = random_sample(n, seed, weights=weights)
        assert fixed.fit(samples)
        fixed.load(samples)
        for own, expected in zip(fixed.batches, split(samples, size), strict=True):
            for name, value in expected._asdict().items():
                found = getattr(own, name)
                if value is None:
                    assert found is None, name
                    continue
                assert torch.equal(found, value), name
                assert found.dtype == value.dtype, name
    assert addresses == [[None if t is None else t.data_ptr() for t in b] for b in fixed.batches]


def test_other_samples_do_not_fit_and_theirs_stay_as_they_were() -> None:
    first = random_sample(8, 0)
    fixed = FixedSamples(first, 2)
    first.rewards.fill_(100)
    assert float(fixed.batches[0].rewards.max()) < 100, "memory of its own"
    others: list[Any] = [
        random_sample(4, 0),
        random_sample(8, 0, weights=True),
        first._replace(rewards=first.rewards.double()),
        first._replace(actions=first.actions.flatten()),
    ]
    assert not any(map(fixed.fit, others))
