"""Torsos: shapes, parameter names, forward order."""

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from torch import Tensor, nn
from torch.nn import functional as F

from sndqn.errors import ConfigError
from sndqn.networks.torsos import (
    MLP,
    DataEfficientCNN,
    ImpalaCNN,
    MinAtarCNN,
    NatureCNN,
    flattened_size,
)
from sndqn.spectral import normalize_layers, select_layers, weight_layers


@pytest.mark.parametrize(
    ("torso", "shape", "features"),
    [
        (MLP((3, 2)), (3, 2), 6),
        (MLP((3, 2), hidden=(7, 5)), (3, 2), 5),
        (NatureCNN((4, 84, 84)), (4, 84, 84), 512),
        (NatureCNN((1, 36, 36), features_dim=16), (1, 36, 36), 16),
        (DataEfficientCNN((4, 84, 84)), (4, 84, 84), 256),
        (MinAtarCNN((6, 10, 10)), (6, 10, 10), 128),
        (MinAtarCNN((6, 10, 10), channels=(32, 32, 32, 32)), (6, 10, 10), 128),
        (ImpalaCNN((4, 84, 84)), (4, 84, 84), 256),
        (ImpalaCNN((6, 10, 10), width=2, features_dim=5), (6, 10, 10), 5),
        (ImpalaCNN((3, 72, 96), pool=6), (3, 72, 96), 256),
        (ImpalaCNN((1, 1, 1)), (1, 1, 1), 256),
    ],
    ids=[
        "flat",
        "mlp",
        "nature",
        "small nature",
        "data-efficient",
        "minatar",
        "deep minatar",
        "impala",
        "wide impala on a grid",
        "pooled impala on oblong images",
        "impala on one pixel",
    ],
)
def test_features_have_the_promised_length(
    torso: MLP | NatureCNN | MinAtarCNN | ImpalaCNN, shape: tuple[int, ...], features: int
) -> None:
    assert torso.features_dim == features
    assert torso(torch.zeros(2, *shape)).shape == (2, features)


def test_nature_weights_pass_to_and_from_stable_baselines3() -> None:
    space = spaces.Box(0, 255, (4, 36, 36), "uint8")
    ours, theirs = NatureCNN((4, 36, 36)), SB3NatureCNN(space)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.rand(2, 4, 36, 36)
    torch.testing.assert_close(ours(images), theirs(images))
    theirs.load_state_dict(ours.state_dict(), strict=True)


def test_nature_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in NatureCNN((4, 84, 84)).parameters()) == 1_684_128


def test_the_data_efficient_cnn_is_that_of_the_paper() -> None:
    kernels = [
        (c.out_channels, c.kernel_size, c.stride)
        for c in DataEfficientCNN((4, 84, 84)).cnn
        if isinstance(c, nn.Conv2d)
    ]
    assert kernels == [(32, (5, 5), (5, 5)), (64, (5, 5), (5, 5))]


def test_layers_are_registered_in_forward_order() -> None:
    order = [entry.name for entry in weight_layers(MinAtarCNN((4, 10, 10), channels=(8, 8)))]
    assert order == ["cnn.0", "cnn.2", "linear.0"]


def test_counting_outputs_draws_nothing_from_the_global_random_state() -> None:
    cnn = NatureCNN((1, 36, 36)).cnn
    before = torch.get_rng_state()
    assert flattened_size(cnn, (1, 36, 36)) == 64
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("torso", "shape", "features"),
    [
        (NatureCNN((4, 84, 84), features_dim=0), (4, 84, 84), 64 * 7 * 7),
        (DataEfficientCNN((4, 84, 84), features_dim=0), (4, 84, 84), 576),
        (MinAtarCNN((4, 10, 10), features_dim=0), (4, 10, 10), 16 * 8 * 8),
        (ImpalaCNN((4, 84, 84), features_dim=0), (4, 84, 84), 32 * 11 * 11),
        (ImpalaCNN((4, 10, 10), features_dim=0), (4, 10, 10), 32 * 2 * 2),
        (ImpalaCNN((4, 84, 84), width=2, pool=6, features_dim=0), (4, 84, 84), 64 * 6 * 6),
    ],
    ids=["nature", "data-efficient", "minatar", "impala", "impala on a grid", "beyond the rainbow"],
)
def test_without_a_dense_layer_the_features_are_the_flattened_convolutions(
    torso: NatureCNN | MinAtarCNN | ImpalaCNN, shape: tuple[int, ...], features: int
) -> None:
    assert torso.features_dim == features
    assert isinstance(torso.linear, nn.Identity)
    assert all(isinstance(entry.layer, nn.Conv2d) for entry in weight_layers(torso))
    assert torso(torch.rand(2, *shape)).shape == (2, features)


@pytest.mark.parametrize("torso", [NatureCNN, DataEfficientCNN, MinAtarCNN, ImpalaCNN])
def test_the_dense_layer_is_all_that_no_units_leave_out(torso: type[nn.Module]) -> None:
    whole, bare = torso((2, 40, 40)), torso((2, 40, 40), features_dim=0)
    convolutions = {k: v for k, v in whole.state_dict().items() if not k.startswith("linear.")}
    bare.load_state_dict(convolutions, strict=True)
    images = torch.rand(3, 2, 40, 40)
    assert isinstance(whole.linear, nn.Module)
    torch.testing.assert_close(whole.linear(bare(images)), whole(images))


def test_the_impala_trunk_for_atari_has_the_parameters_counted_by_hand() -> None:
    def convolution(n_in: int, n_out: int) -> int:
        return 3 * 3 * n_in * n_out + n_out

    first = convolution(4, 16) + 4 * convolution(16, 16)
    second = convolution(16, 32) + 4 * convolution(32, 32)
    third = convolution(32, 32) + 4 * convolution(32, 32)
    dense = 32 * 11 * 11 * 256 + 256
    count = sum(p.numel() for p in ImpalaCNN((4, 84, 84)).parameters())
    assert count == first + second + third + dense == 1_089_232


def test_impala_layers_are_registered_in_forward_order() -> None:
    torso = ImpalaCNN((4, 20, 20))
    called: list[nn.Module] = []
    for entry in weight_layers(torso):
        entry.layer.register_forward_hook(lambda layer, *_: called.append(layer))
    torso(torch.zeros(1, 4, 20, 20))
    assert len(called) == 16
    assert [id(layer) for layer in called] == [id(entry.layer) for entry in weight_layers(torso)]


def test_only_convolutions_in_residual_blocks_bear_that_name() -> None:
    names = [entry.name for entry in weight_layers(ImpalaCNN((4, 10, 10)))]
    stage = ["entry", "residual.0.1", "residual.0.3", "residual.1.1", "residual.1.3"]
    assert names == [f"stages.{i}.{name}" for i in range(3) for name in stage] + ["linear.0"]


def impala_by_functions(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    def convolve(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    for i in range(3):
        x = F.max_pool2d(convolve(x, f"stages.{i}.entry"), 3, stride=2, padding=1)
        for block in (f"stages.{i}.residual.0", f"stages.{i}.residual.1"):
            hidden = convolve(F.relu(x), f"{block}.1")
            x = x + convolve(F.relu(hidden), f"{block}.3")
    flat = F.relu(x).flatten(1)
    return F.relu(F.linear(flat, weights["linear.0.weight"], weights["linear.0.bias"]))


def test_impala_and_its_gradients_are_those_of_the_residual_formula() -> None:
    torch.manual_seed(0)
    torso = ImpalaCNN((3, 21, 13)).double()
    images = torch.randn(2, 3, 21, 13, dtype=torch.float64, requires_grad=True)
    weights = dict(torso.named_parameters())
    ours, reference = torso(images), impala_by_functions(weights, images)
    assert bool(reference.any())
    torch.testing.assert_close(ours, reference)
    direction = torch.randn_like(ours)
    wanted = [images, *weights.values()]
    torch.testing.assert_close(
        torch.autograd.grad(ours, wanted, direction),
        torch.autograd.grad(reference, wanted, direction),
    )


def test_a_residual_block_of_zeros_changes_nothing() -> None:
    torso = ImpalaCNN((2, 12, 12))
    block = torso.get_submodule("stages.0.residual.0")
    for p in block.parameters():
        nn.init.zeros_(p)
    maps = torch.randn(2, 16, 6, 6)
    assert torch.equal(block(maps), maps)


def test_adaptive_pooling_takes_the_maximum_of_each_cell() -> None:
    torso = ImpalaCNN((2, 48, 48), features_dim=0)
    pooled = ImpalaCNN((2, 48, 48), features_dim=0, pool=3)
    pooled.load_state_dict(torso.state_dict(), strict=True)
    images = torch.rand(2, 2, 48, 48)
    maps = torso(images).view(2, 32, 6, 6)  # cells of 2 x 2
    torch.testing.assert_close(pooled(images), F.max_pool2d(maps, 2).flatten(1))


def test_adaptive_pooling_gives_every_image_size_the_same_features() -> None:
    sizes = [(84, 84), (96, 72), (50, 50)]
    assert {ImpalaCNN((1, *size), features_dim=0, pool=6).features_dim for size in sizes} == {1152}


def test_impala_computes_the_same_from_either_memory_format() -> None:
    torso = ImpalaCNN((4, 20, 20))
    images = torch.rand(2, 4, 20, 20)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(torso(images), torso(last))
    for entry in select_layers(torso, "convs"):
        assert entry.layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_impala_learns_through_normalised_residual_blocks() -> None:
    torso = ImpalaCNN((2, 12, 12))
    names = [entry.name for entry in select_layers(torso, "residual")]
    normalize_layers(torso, names, torch.zeros(1, 2, 12, 12))
    torso.train()
    torso(torch.rand(2, 2, 12, 12)).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in torso.parameters())


@pytest.mark.parametrize("kwargs", [{"width": 0}, {"pool": 0}])
def test_an_impala_network_of_no_size_is_refused(kwargs: dict[str, int]) -> None:
    (name,) = kwargs
    with pytest.raises(ConfigError, match=f"{name}: expected 1 or more, found 0"):
        ImpalaCNN((2, 12, 12), **kwargs)
