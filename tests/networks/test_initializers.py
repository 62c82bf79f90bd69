"""Initial weights: their distributions, and that nothing else changes."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.networks.initializers import InitializerName, initialize
from sndqn.networks.noisy import NoisyLinear
from sndqn.networks.torsos import NatureCNN
from sndqn.spectral import spectral_norm, weight_layers

NAMES: tuple[InitializerName, ...] = get_args(InitializerName)
DRAWN = [name for name in NAMES if name != "torch"]


def network() -> nn.Sequential:
    """A convolution of fan-in 72 and fan-out 576, then layers of (in, out) 64, 100 and 100, 5."""
    convolutions = nn.Sequential(nn.Conv2d(8, 64, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(convolutions, nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 5))


def weights(model: nn.Module) -> list[Tensor]:
    return [entry.layer.weight.detach() for entry in weight_layers(model)]


def drawn(name: InitializerName) -> list[Tensor]:
    torch.manual_seed(0)
    model = network()
    initialize(model, name)
    return weights(model)


def assert_uniform(weight: Tensor, limit: float) -> None:
    """Asserts limits that are kept and nearly reached, and the variance of the distribution."""
    assert float(weight.abs().max()) <= limit
    assert float(weight.max()) > 0.98 * limit
    assert float(weight.min()) < -0.98 * limit
    assert float(weight.var()) == pytest.approx(limit**2 / 3, rel=0.1)
    assert abs(float(weight.mean())) < 0.1 * limit


def test_xavier_uniform_has_the_limits_of_glorot_and_bengio() -> None:
    fans = [(8 * 9, 64 * 9), (64, 100), (100, 5)]
    for weight, (fan_in, fan_out) in zip(drawn("xavier_uniform"), fans, strict=True):
        assert_uniform(weight, math.sqrt(6 / (fan_in + fan_out)))


def test_variance_scaling_has_dopamines_limits() -> None:
    for weight, fan_in in zip(drawn("variance_scaling"), [8 * 9, 64, 100], strict=True):
        assert_uniform(weight, math.sqrt(math.sqrt(3) / fan_in))
        assert float(weight.var()) == pytest.approx(1 / math.sqrt(3) / fan_in, rel=0.1)


def test_orthogonal_has_orthonormal_rows_or_columns_times_its_gain() -> None:
    kernel, tall, output = (weight.double().flatten(1) for weight in drawn("orthogonal"))
    for gram, gain in [
        (kernel @ kernel.T, math.sqrt(2)),
        (tall.T @ tall, math.sqrt(2)),
        (output @ output.T, 1.0),
    ]:
        identity = torch.eye(len(gram), dtype=torch.float64)
        torch.testing.assert_close(gram, gain**2 * identity, atol=1e-5, rtol=0)


def test_every_stream_that_ends_in_the_output_counts_as_the_last_layer() -> None:
    class Streams(nn.Module):
        parallel = True

        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Linear(8, 1)
            self.advantage = nn.Linear(8, 4)

    model = nn.Sequential(nn.Linear(8, 8), Streams())
    initialize(model, "orthogonal")
    norms = [float(torch.linalg.matrix_norm(weight, 2)) for weight in weights(model)]
    assert norms == pytest.approx([math.sqrt(2), 1.0, 1.0], rel=1e-5)


@pytest.mark.parametrize("name", DRAWN)
def test_biases_become_zero_and_may_be_missing(name: InitializerName) -> None:
    model = nn.Sequential(network(), nn.Linear(5, 2, bias=False))
    initialize(model, name)
    biases = [entry.layer.bias for entry in weight_layers(model)]
    assert [bias is None for bias in biases] == [False, False, False, True]
    assert not any(bool(bias.any()) for bias in biases if bias is not None)


def test_torchs_own_weights_stay_and_nothing_is_drawn() -> None:
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()
    initialize(model, "torch")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", DRAWN)
def test_weights_depend_on_torchs_random_state_alone(name: InitializerName) -> None:
    first, second = network(), network()
    for model in (first, second):
        torch.manual_seed(7)
        initialize(model, name)
    for a, b in zip(weights(first), weights(second), strict=True):
        assert torch.equal(a, b)
    initialize(second, name)
    assert not torch.equal(weights(first)[0], weights(second)[0])


@pytest.mark.parametrize("name", DRAWN)
def test_the_memory_format_stays_and_does_not_matter(name: InitializerName) -> None:
    last, first = NatureCNN((4, 36, 36), 16), NatureCNN((4, 36, 36), 16)
    first.cnn.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for model in (last, first):
        torch.manual_seed(1)
        initialize(model, name)
    for a, b in zip(weights(last), weights(first), strict=True):
        assert torch.equal(a, b)
    for a, b in list(zip(weights(last), weights(first), strict=True))[:3]:
        assert a.is_contiguous(memory_format=torch.channels_last)
        assert b.is_contiguous()


@pytest.mark.parametrize("name", DRAWN)
def test_parameters_stay_the_objects_an_optimiser_knows(name: InitializerName) -> None:
    model = network().double()
    before = list(model.parameters())
    initialize(model, name)
    for a, b in zip(before, model.parameters(), strict=True):
        assert a is b
        assert a.requires_grad
        assert a.grad_fn is None
        assert a.dtype == torch.float64


def test_the_deviations_of_a_noisy_layer_stay() -> None:
    layer = NoisyLinear(16, 4)
    before = layer.weight_sigma.detach().clone()
    initialize(layer, "xavier_uniform")
    assert torch.equal(layer.weight_sigma, before)
    assert not bool(layer.bias.any())


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    expected = "one of torch, xavier_uniform, variance_scaling, orthogonal, found 'he'"
    with pytest.raises(ConfigError, match=expected):
        initialize(network(), "he")  # type: ignore[arg-type]


def test_normalised_layers_are_refused_and_nothing_is_changed() -> None:
    model = nn.Sequential(nn.Linear(4, 4), spectral_norm(nn.Linear(4, 4)))
    before = [weight.clone() for weight in weights(model)]
    with pytest.raises(ConfigError, match="expected plain layers, found 1 under"):
        initialize(model, "orthogonal")
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
