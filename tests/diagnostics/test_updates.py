"""Updates tried on a copy: what the real ones then do, and no trace of the trial."""

from typing import Any

import numpy as np
import pytest
import torch
from variants import make

from sndqn.diagnostics.updates import try_updates
from sndqn.replay import Batch

N = 3


def batches(model: Any) -> list[Batch]:
    draw = np.random.default_rng(0)
    found = []
    for _ in range(N):
        rows = draw.integers(model.replay_buffer.size(), size=16)
        batch = model.replay_buffer.gather(rows, np.zeros(16, np.int64))
        n_random = model.update.settings.loss.n_random
        if n_random:
            numbers = torch.from_numpy(draw.random((16, n_random), dtype=np.float32))
            batch = batch._replace(random=numbers)
        found.append(batch)
    return found


def states() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(0, 3, (1000, 4)).astype(np.float32))


@pytest.mark.parametrize(
    "variant", [("DQN", "plain"), ("C51", "plain"), ("IQN", "plain")], ids="-".join
)
def test_the_trial_tells_what_the_updates_then_do(variant: Any) -> None:
    model = make(variant, learning_rate=0.03)
    model.learn(44)  # when it has not made up its mind
    model._trust_sigma(True)  # as within a training
    before = {name: t.clone() for name, t in model.policy.state_dict().items()}
    moments = {k: t.clone() for k, t in model.policy.optimizer.state_dict()["state"][0].items()}
    rng = torch.get_rng_state()
    churn, layers = try_updates(model.update, batches(model), states(), seed=0)
    assert all(torch.equal(t, before[n]) for n, t in model.policy.state_dict().items())
    after = model.policy.optimizer.state_dict()["state"][0]
    assert all(torch.equal(t, moments[k]) for k, t in after.items())
    assert torch.equal(torch.get_rng_state(), rng)

    # The same by the model itself, with autograd's own gradients and numbers by hand.
    network, changes = model.q_net, 0
    expected: dict[str, list[list[float]]] = {name: [] for name in layers}
    for batch in batches(model):
        weights = {n: network.get_submodule(n).weight for n in layers}
        old = {n: w.detach().numpy().copy() for n, w in weights.items()}
        with torch.no_grad():
            actions = network(states()).argmax(dim=1)
        model.policy.set_training_mode(True)
        loss = model.update.settings.loss(model.update.networks, batch).values.mean()
        gradients = torch.autograd.grad(loss, list(weights.values()))
        model.policy.set_training_mode(False)
        model.update(batch)
        with torch.no_grad():
            now = network(states()).argmax(dim=1)
        changes += sum(int(a != b) for a, b in zip(actions, now, strict=True))
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            step = np.linalg.norm(weight.detach().numpy() - old[name])
            size = np.linalg.norm(old[name])
            row = [float(np.linalg.norm(gradient.numpy())), float(step), float(step / size)]
            expected[name].append(row)
    assert churn == {"churn": pytest.approx(changes / N / 1000)}
    assert changes or variant[0] == "IQN"  # whose mind is made up here
    for name, row in layers.items():
        means = np.mean(expected[name], axis=0).tolist()
        keys = ("gradient_norm", "update_norm", "relative_update")
        assert [row[key] for key in keys] == pytest.approx(means, rel=1e-4)


def test_noise_is_drawn_from_numbers_of_its_own() -> None:
    model = make(("IQN", "noisy"))
    model.learn(100)
    before = [t.clone() for t in model.policy.buffers()]
    rng = torch.get_rng_state()
    trials = [try_updates(model.update, batches(model), states(), seed=s) for s in (0, 0, 1)]
    assert trials[0] == trials[1]
    assert trials[0] != trials[2]
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(a, b) for a, b in zip(before, model.policy.buffers(), strict=True))
