"""Torsos: shapes, parameter names, forward order."""

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN

from sndqn.networks import MLP, MinAtarCNN, NatureCNN
from sndqn.networks.torsos import flattened_size
from sndqn.spectral import weight_layers


@pytest.mark.parametrize(
    ("torso", "shape", "features"),
    [
        (MLP((3, 2)), (3, 2), 6),
        (MLP((3, 2), hidden=(7, 5)), (3, 2), 5),
        (NatureCNN((4, 84, 84)), (4, 84, 84), 512),
        (NatureCNN((1, 36, 36), features_dim=16), (1, 36, 36), 16),
        (MinAtarCNN((6, 10, 10)), (6, 10, 10), 128),
        (MinAtarCNN((6, 10, 10), channels=(32, 32, 32, 32)), (6, 10, 10), 128),
    ],
    ids=["flat", "mlp", "nature", "small nature", "minatar", "deep minatar"],
)
def test_features_have_the_promised_length(
    torso: MLP | NatureCNN | MinAtarCNN, shape: tuple[int, ...], features: int
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


def test_layers_are_registered_in_forward_order() -> None:
    order = [entry.name for entry in weight_layers(MinAtarCNN((4, 10, 10), channels=(8, 8)))]
    assert order == ["cnn.0", "cnn.2", "linear.0"]


def test_counting_outputs_draws_nothing_from_the_global_random_state() -> None:
    cnn = NatureCNN((1, 36, 36)).cnn
    before = torch.get_rng_state()
    assert flattened_size(cnn, (1, 36, 36)) == 64
    assert torch.equal(torch.get_rng_state(), before)
