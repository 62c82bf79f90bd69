"""Every algorithm under its flags keeps Stable-Baselines3's conventions and its layers' bounds."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize
from tiny_envs import make_vec_env
from variants import (
    ALGORITHMS,
    FEW,
    VARIANTS,
    Variant,
    cartpoles,
    differences,
    held,
    make,
    normalises,
    state,
    variants,
)

from sndqn.diagnostics import layer_norms
from sndqn.errors import ConfigError, SelectionError
from sndqn.replay import FrameRing, PrioritizedFrameRing, split

every_variant = variants(VARIANTS, FEW)
PLAIN: list[Variant] = [(name, "plain") for name in ALGORITHMS]
HELD = [v for v in VARIANTS if normalises(v)]
SEVERAL_PASSES = [v for v in HELD if v[1] in ("double", "munchausen", "gradient-penalty")]
OBSERVATIONS = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def q_values(network: Any) -> torch.Tensor:
    with torch.no_grad():
        values: torch.Tensor = network(OBSERVATIONS)
    return values


@every_variant
def test_a_saved_model_predicts_the_same_and_trains_on(variant: Variant, tmp_path: Path) -> None:
    model = make(variant).learn(200)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=cartpoles(), device="cpu")
    assert differences(state(model.policy), state(loaded.policy)) == []
    assert torch.equal(q_values(model.q_net), q_values(loaded.q_net))
    expected, found = (m.predict(OBSERVATIONS.numpy(), deterministic=True) for m in (model, loaded))
    assert np.array_equal(found[0], expected[0])
    loaded.learn(200, reset_num_timesteps=False)
    assert (loaded.num_timesteps, loaded._n_updates) == (400, 90)
    moved = differences(state(model.q_net), state(loaded.q_net))
    assert {name for name, _ in model.q_net.named_parameters()} <= set(moved)
    assert bool(torch.isfinite(q_values(loaded.q_net)).all())


@every_variant
def test_the_same_seed_gives_the_same_weights_whether_callbacks_look_on_or_not(
    variant: Variant, tmp_path: Path
) -> None:
    alone = make(variant).learn(200)
    watched = make(variant)
    evaluation = EvalCallback(cartpoles(), n_eval_episodes=1, eval_freq=90, verbose=0)
    watched.learn(200, [evaluation, CheckpointCallback(100, str(tmp_path))])
    assert differences(state(alone.policy), state(watched.policy)) == []
    assert evaluation.last_mean_reward > 5
    checkpoint = type(watched).load(tmp_path / "rl_model_200_steps", device="cpu")
    assert differences(state(checkpoint.q_net), state(watched.q_net)) == []
    other = make(variant, seed=1).learn(200)
    assert differences(state(other.q_net), state(watched.q_net)) != []


@every_variant
def test_environments_side_by_side_and_normalised_observations_work(variant: Variant) -> None:
    env = VecNormalize(cartpoles(3))
    model = make(variant, env)
    before = q_values(model.q_net)
    model.learn(300)
    assert (model.num_timesteps, model._n_updates) == (300, 22)
    after = q_values(model.q_net)
    assert bool(torch.isfinite(after).all())
    assert not torch.equal(before, after)


@every_variant
def test_whoever_evaluates_sees_the_mean_weights_and_changes_nothing(variant: Variant) -> None:
    model = make(variant)
    means = q_values(model.q_net)
    model.policy.reset_noise()  # as in the middle of training
    before = state(model.policy)
    actions, _ = model.predict(OBSERVATIONS.numpy(), deterministic=True)
    assert np.array_equal(actions, means.argmax(dim=1).numpy())
    rewards, _ = evaluate_policy(model, cartpoles(), 2, return_episode_rewards=True)
    assert min(rewards) > 5  # type: ignore[arg-type]
    assert differences(state(model.policy), before) == []


@variants(HELD, PLAIN)
@pytest.mark.parametrize("tau", [1.0, 0.05])
def test_target_layers_are_held_to_their_bound(variant: Variant, tau: float) -> None:
    every = 20 if tau == 1 else 4
    model = make(variant, tau=tau, target_update_interval=every, learning_rate=3e-3).learn(400)
    for layer in held(model.q_net_target):
        assert layer.exact_sigma() == pytest.approx(float(layer.bound), rel=0.01)
    unequal = differences(state(model.q_net), state(model.q_net_target))
    if tau == 1:  # the last step was one of a hard update
        assert unequal == []
        assert torch.equal(q_values(model.q_net), q_values(model.q_net_target))
    else:
        assert unequal != []


def with_stale_vectors(variant: Variant) -> tuple[Any, Any]:
    """A model in training whose next power iteration would move all it touches, and a batch."""
    model = make(variant, learning_starts=10**6).learn(50)
    model.policy.trust_sigma(True)  # as while `learn` runs
    model.policy.reset_noise()
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, split(model.draw_samples(16), 16)[0]


@variants(VARIANTS, VARIANTS)
def test_losses_updates_and_measurements_move_no_weight_and_no_vector(variant: Variant) -> None:
    model, batch = with_stale_vectors(variant)
    before = state(model.policy)
    for network in (model.q_net, model.q_net_target):
        layer_norms(network, model.observation_space)
    model.update.gradients(batch)
    model.policy.set_training_mode(True)  # as updates compute their losses
    model.make_loss()(model.update.networks, batch)
    assert differences(state(model.policy), before) == []


@variants(SEVERAL_PASSES, SEVERAL_PASSES)
def test_of_several_forward_passes_only_the_one_that_learns_would_refine(variant: Variant) -> None:
    model, batch = with_stale_vectors(variant)
    twins = copy.deepcopy(held(model.q_net))
    target = state(model.q_net_target)
    for layer in held(model.q_net):
        layer.iterates_in_forward = True
    model.update.gradients(batch)
    for layer, twin in zip(held(model.q_net), twins, strict=True):
        twin.refine()
        assert differences(state(layer), state(twin)) == []
    assert differences(state(model.q_net_target), target) == []


def test_the_bias_of_priorities_is_corrected_the_more_the_longer_training_lasts() -> None:
    model = make(("DQN", "prioritized-3-steps"), learning_starts=10**6).learn(50)
    replay: Any = model.replay_buffer
    found = []
    for remaining in (1.0, 0.5, 0.0):
        model._current_progress_remaining = remaining
        model.draw_samples(16)
        found.append(replay.beta)
    assert found == pytest.approx([0.4, 0.7, 1.0])


@pytest.mark.parametrize("name", ["div-grad", "mul-eps", "div-lr-logarithmic"])
def test_a_copied_policy_is_steered_by_its_own_scheduler(name: str) -> None:
    variant = next(v for v in VARIANTS if v[1] == name)
    policy = make(variant, policy_kwargs={"optimizer_kwargs": {"eps": 0.01}}).policy
    twin, free = copy.deepcopy(policy), copy.deepcopy(policy)
    free.optimizer.scheduler = None
    for each in (policy, twin, free):
        q_values = each.q_net(OBSERVATIONS)
        q_values.square().mean().backward()
        each.optimizer.step()
    assert differences(state(policy.q_net), state(twin.q_net)) == []
    assert differences(state(policy.q_net), state(free.q_net)) != []
    assert {id(x) for x in twin.optimizer.scheduler.layers} == {id(x) for x in held(twin.q_net)}


def test_settings_given_at_loading_reach_the_replay(tmp_path: Path) -> None:
    make(("DQN", "prioritized-3-steps")).save(tmp_path / "model")
    changes: dict[str, Any] = {"n_steps": 2, "gamma": 0.5, "prioritized": False}
    model = ALGORITHMS["DQN"].load(tmp_path / "model", env=cartpoles(), **changes)
    replay: Any = model.replay_buffer
    assert type(replay) is FrameRing
    assert (replay.n_steps, replay.gamma, model.n_steps) == (2, 0.5, 2)
    again = ALGORITHMS["DQN"].load(tmp_path / "model", env=cartpoles())
    assert type(again.replay_buffer) is PrioritizedFrameRing
    assert (again.replay_buffer.n_steps, again.n_steps) == (3, 3)


REFUSED: list[tuple[str, str, str, dict[str, Any], type[Exception], str]] = [
    ("DQN", "SNMlpPolicy", "mlp", {"double": True, "munchausen": True}, ConfigError, "leave one"),
    ("IQN", "SNMlpPolicy", "mlp", {"double": True, "munchausen": True}, ConfigError, "leave one"),
    ("C51", "SNMlpPolicy", "mlp", {"munchausen": True}, ConfigError, "Use DQN, QRDQN or IQN"),
    ("DQN", "SNMultiInputPolicy", "dict", {"prioritized": True}, ConfigError, "one array"),
    ("DQN", "SNMultiInputPolicy", "dict", {"gradient_penalty": 1.0}, ConfigError, "one array"),
    ("C51", "MlpPolicy", "mlp", {}, ConfigError, "use SNMlpPolicy"),
    ("DQN", "MlpPolicy", "mlp", {"gradient_penalty": 1.0}, ConfigError, "use SNMlpPolicy"),
    ("QRDQN", "SNMlpPolicy", "mlp", {"policy_kwargs": {"noisy": True}}, SelectionError, "noisy"),
]


@pytest.mark.parametrize(("algorithm", "policy", "kind", "flags", "error", "remedy"), REFUSED)
def test_what_cannot_go_together_is_refused_with_a_remedy(
    algorithm: str,
    policy: str,
    kind: str,
    flags: dict[str, Any],
    error: type[Exception],
    remedy: str,
) -> None:
    with pytest.raises(error, match=remedy):
        ALGORITHMS[algorithm](policy, make_vec_env(kind), buffer_size=100, device="cpu", **flags)
