"""Heads: outputs and Q-values against the papers' equations, shapes, indices, names."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.networks import DuelingHead, LinearHead, NoisyLinear, make_head
from sndqn.networks.heads import ActionOutputs, midpoints
from sndqn.networks.noisy import noisy_layers, reset_noise
from sndqn.spectral import weight_layers

SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {},
    "categorical": {"n_atoms": 7, "v_min": -2.0, "v_max": 3.0},
    "quantile": {"n_quantiles": 5},
    "implicit_quantile": {"n_cosines": 6, "n_acting_quantiles": 4},
}
N_OUTPUTS = {"categorical": 7, "quantile": 5, "implicit_quantile": 4}


def make(name: Any, net_arch: tuple[int, ...] = (6,), **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return make_head(name, 8, 3, net_arch, **{**SETTINGS[name], **kwargs})


def test_a_linear_head_is_hidden_layers_and_one_output_per_action() -> None:
    head = LinearHead(5, 3, (7, 6), nn.Tanh)
    kinds = [type(layer) for layer in head]
    assert kinds == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert head(torch.zeros(2, 5)).shape == (2, 3)


@pytest.mark.parametrize("net_arch", [(), (6,), (6, 5)])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_outputs_have_a_number_or_a_distribution_per_action(
    name: str, dueling: bool, noisy: bool, net_arch: tuple[int, ...]
) -> None:
    head = make(name, net_arch, dueling=dueling, noisy=noisy)
    reset_noise(noisy_layers(head))
    features = torch.randn(4, 8)
    outputs = head.outputs(features)
    distribution = (N_OUTPUTS[name],) if name in N_OUTPUTS else ()
    assert outputs.shape == (4, 3, *distribution)
    assert bool(torch.isfinite(outputs).all())
    assert head.q_values(outputs).shape == (4, 3)
    assert torch.equal(head(features), head.q_values(outputs))


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_noisy_head_is_noisy_throughout_but_for_the_embedding(name: str, dueling: bool) -> None:
    head = make(name, dueling=dueling, noisy=True)
    plain = [e.name for e in weight_layers(head) if not isinstance(e.layer, NoisyLinear)]
    assert plain == (["embedding"] if name == "implicit_quantile" else [])
    assert not noisy_layers(make(name, dueling=dueling))


def test_q_values_of_atoms_are_the_mean_return_by_hand() -> None:
    head = make_head("categorical", 8, 2, n_atoms=3, v_min=-1.0, v_max=3.0)
    # Chances (¼, ½, ¼) and (0.6, 0.1, 0.3) of the returns -1, 1, 3: means 1 and 0.4.
    logits = torch.tensor([[[1.0, 2.0, 1.0], [6.0, 1.0, 3.0]]]).log() + 7.0
    torch.testing.assert_close(head.q_values(logits), torch.tensor([[1.0, 0.4]]))  # type: ignore[operator]


@pytest.mark.parametrize("name", ["quantile", "implicit_quantile"])
def test_q_values_of_quantiles_are_their_mean_by_hand(name: str) -> None:
    quantiles = torch.tensor([[[1.0, 2.0, 6.0], [-4.0, 0.0, 1.0]]])
    torch.testing.assert_close(make(name).q_values(quantiles), torch.tensor([[3.0, -1.0]]))


def test_midpoints_lie_in_the_middle_of_equal_parts() -> None:
    torch.testing.assert_close(midpoints(4), torch.tensor([1 / 8, 3 / 8, 5 / 8, 7 / 8]))
    assert torch.equal(make("quantile", n_quantiles=4).fractions, midpoints(4))
    assert make("quantile", n_quantiles=200).fractions[[0, -1]].tolist() == pytest.approx(
        [1 / 400, 399 / 400]
    )


def test_atoms_are_evenly_spaced_from_end_to_end() -> None:
    expected = torch.tensor([-2 + 5 * i / 6 for i in range(7)])
    torch.testing.assert_close(make("categorical").support, expected)


def test_defaults_are_the_papers() -> None:
    categorical: Any = make_head("categorical", 8, 3)
    assert (len(categorical.support), *categorical.support[[0, -1]].tolist()) == (51, -10, 10)
    assert make_head("quantile", 8, 3).outputs(torch.zeros(1, 8)).shape == (1, 3, 200)  # type: ignore[operator]
    implicit: Any = make_head("implicit_quantile", 8, 3)
    assert (len(implicit.frequencies), len(implicit.fractions)) == (64, 32)


def implicit_quantile_by_loops(head: Any, features: Tensor, fractions: Tensor) -> Tensor:
    """Z_τ(x, a) = f(ψ(x) ⊙ φ(τ))_a, φ_j(τ) = ReLU(Σ over i < n of cos(π i τ) w_ij + b_j)."""
    embedding, (hidden, _, output) = head.embedding, head.quantiles.layers
    result = torch.zeros(len(features), 3, fractions.shape[1])
    for b, k in itertools.product(range(len(features)), range(fractions.shape[1])):
        tau = float(fractions[b, k])
        phi = [
            max(0.0, sum(float(w[i]) * math.cos(math.pi * i * tau) for i in range(6)) + float(bias))
            for w, bias in zip(embedding.weight, embedding.bias, strict=True)
        ]
        x = features[b] * torch.tensor(phi)
        result[b, :, k] = output.weight @ (hidden.weight @ x + hidden.bias).relu() + output.bias
    return result


@torch.no_grad()
def test_implicit_quantiles_are_the_papers_equation_sample_by_sample() -> None:
    head = make("implicit_quantile")
    features, fractions = torch.randn(4, 8), torch.rand(4, 5)
    found = head.outputs(features, fractions)
    torch.testing.assert_close(found, implicit_quantile_by_loops(head, features, fractions))


@torch.no_grad()
def test_without_fractions_implicit_quantiles_are_those_of_even_ones() -> None:
    head, features = make("implicit_quantile"), torch.randn(4, 8)
    even = torch.tensor([1 / 8, 3 / 8, 5 / 8, 7 / 8]).expand(4, 4)
    torch.testing.assert_close(head.outputs(features), head.outputs(features, even))
    torch.testing.assert_close(head(features), head.outputs(features, even).mean(dim=2))


@torch.no_grad()
def test_the_quantile_at_a_fraction_does_not_depend_on_the_others() -> None:
    head = make("implicit_quantile", dueling=True)
    features, fractions = torch.randn(4, 8), torch.rand(4, 5)
    together = head.outputs(features, fractions)
    for k in range(5):
        alone = head.outputs(features, fractions[:, k : k + 1])
        torch.testing.assert_close(together[..., k : k + 1], alone)


def test_dueling_adds_the_value_and_the_centred_advantage() -> None:
    head = DuelingHead(2, 3)
    with torch.no_grad():
        value, advantage = head.streams.value[0], head.streams.advantage[0]  # type: ignore[index]
        value.weight.copy_(torch.tensor([[1.0, 2.0]]))
        value.bias.copy_(torch.tensor([0.5]))
        advantage.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        advantage.bias.copy_(torch.tensor([0.0, 0.0, 3.0]))
    # x = (2, 3): V = 2 + 6 + 0.5 = 8.5; A = (2, 3, 8), mean 13 / 3.
    expected = torch.tensor([[8.5 + a - 13 / 3 for a in (2.0, 3.0, 8.0)]])
    torch.testing.assert_close(head(torch.tensor([[2.0, 3.0]])), expected)


@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from([(), (4,), (5, 3)]))
def test_the_mean_over_actions_is_the_value_and_differences_are_the_advantages(
    seed: int, n_actions: int, net_arch: tuple[int, ...]
) -> None:
    torch.manual_seed(seed)
    head, features = DuelingHead(4, n_actions, net_arch), torch.randn(3, 4)
    q_values = head(features)
    value, advantage = head.streams.value(features), head.streams.advantage(features)
    torch.testing.assert_close(q_values.mean(dim=1, keepdim=True), value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        q_values - q_values[:, :1], advantage - advantage[:, :1], rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_dueling_of_distributions_centres_each_number_by_itself() -> None:
    torch.manual_seed(0)
    outputs, features = ActionOutputs(8, 3, 7, (6,), dueling=True), torch.randn(4, 8)
    found = outputs(features)
    value = outputs.streams.value(features)
    advantage = outputs.streams.advantage(features)
    assert value.shape == (4, 7)
    for a, n in itertools.product(range(3), range(7)):
        of_action = [advantage[:, 7 * other + n] for other in range(3)]
        expected = value[:, n] + of_action[a] - sum(of_action) / 3
        torch.testing.assert_close(found[:, a, n], expected)


@pytest.mark.parametrize(
    ("name", "dueling", "expected"),
    [
        ("linear", False, {-1: ["2"], -2: ["0"]}),
        ("categorical", False, {-1: ["logits.layers.2"], -2: ["logits.layers.0"]}),
        ("quantile", False, {-1: ["quantiles.layers.2"], -2: ["quantiles.layers.0"]}),
        (
            "implicit_quantile",
            False,
            {-1: ["quantiles.layers.2"], -2: ["quantiles.layers.0"], -3: ["embedding"]},
        ),
        (
            "linear",
            True,
            {
                -1: ["streams.value.2", "streams.advantage.2"],
                -2: ["streams.value.0", "streams.advantage.0"],
            },
        ),
        (
            "implicit_quantile",
            True,
            {
                -1: ["quantiles.streams.value.2", "quantiles.streams.advantage.2"],
                -2: ["quantiles.streams.value.0", "quantiles.streams.advantage.0"],
                -3: ["embedding"],
            },
        ),
    ],
)
@pytest.mark.parametrize("noisy", [False, True])
def test_layers_count_from_the_output_back_and_an_embedding_before_the_hidden_ones(
    name: str, dueling: bool, noisy: bool, expected: dict[int, list[str]]
) -> None:
    found: dict[int, list[str]] = {}
    for entry in weight_layers(make(name, dueling=dueling, noisy=noisy)):
        found.setdefault(entry.index, []).append(entry.name)
    assert found == expected


@pytest.mark.parametrize("name", SETTINGS)
def test_a_state_is_the_weights_alone(name: str) -> None:
    head = make(name, noisy=True)
    assert set(head.state_dict()) == set(dict(head.named_parameters()))


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("categorical", {"n_atoms": 1}, "n_atoms: expected 2 or more, found 1"),
        ("categorical", {"v_min": 3.0}, r"v_min: expected less than v_max \(3.0\), found 3.0"),
        ("categorical", {"v_max": -5.0}, r"v_min: expected less than v_max \(-5.0\), found -2.0"),
        ("categorical", {"v_max": math.nan}, "v_min: expected less than v_max"),
        ("quantile", {"n_quantiles": 0}, "n_quantiles: expected 1 or more, found 0"),
        ("implicit_quantile", {"n_cosines": 0}, "n_cosines: expected 1 or more, found 0"),
        ("implicit_quantile", {"n_acting_quantiles": 0}, "n_acting_quantiles: expected 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(
    name: str, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(name, **setting)


@pytest.mark.parametrize("name", ["dueling", "rainbow", ""])
def test_an_unknown_head_is_refused_with_those_there_are(name: Any) -> None:
    message = f"expected one of linear, categorical, quantile, implicit_quantile, found '{name}'"
    with pytest.raises(ConfigError, match=message):
        make_head(name, 8, 3)
