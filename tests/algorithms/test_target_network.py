"""The target network follows the online one, and keeps its bound."""

import copy

import pytest
import torch
from torch import nn

from sndqn.algorithms.target_network import evaluating, sync_target
from sndqn.spectral import SpectralLayer, spectral_norm


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(spectral_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 2))


def test_a_hard_sync_makes_the_networks_equal_to_the_bit() -> None:
    online, target = network(0), network(1)
    online(torch.randn(3, 6))
    sync_target(online, target)
    for name, value in online.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name
        assert target.state_dict()[name].data_ptr() != value.data_ptr()


def test_a_soft_sync_averages_weights_and_leaves_unit_vectors() -> None:
    online, target = network(0), network(1)
    expected = {
        name: 0.75 * p.detach() + 0.25 * online.get_parameter(name).detach()
        for name, p in target.named_parameters()
    }
    before = {name: value.clone() for name, value in online.state_dict().items()}
    sync_target(online, target, tau=0.25)
    for name, value in expected.items():
        torch.testing.assert_close(target.get_parameter(name).detach(), value)
    layer = target[0]
    assert isinstance(layer, SpectralLayer)
    assert float(layer.running_u[0].norm()) == pytest.approx(1, abs=1e-6)
    assert float(layer.running_v[0].norm()) == pytest.approx(1, abs=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in online.state_dict().items())


def test_soft_syncs_converge_to_the_bound() -> None:
    online, target = network(0), network(1)
    for _ in range(400):
        sync_target(online, target, tau=0.02)
    layer = target[0]
    assert isinstance(layer, SpectralLayer)
    assert layer.exact_sigma() == pytest.approx(1, rel=1e-3)


def test_a_block_in_evaluation_mode_moves_no_vector_and_gives_the_mode_back() -> None:
    online = network(0)
    before = {name: value.clone() for name, value in online.state_dict().items()}
    with evaluating(online):
        assert not online.training
        online(torch.randn(3, 6))
    assert online.training
    assert all(torch.equal(value, before[name]) for name, value in online.state_dict().items())


def test_soft_updates_copy_batch_statistics_and_average_weights() -> None:
    online = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    target = copy.deepcopy(online)
    online(torch.randn(8, 3))
    with torch.no_grad():
        online[0].weight.add_(1)
    before = target[0].weight.clone()
    sync_target(online, target, 0.25)
    assert torch.equal(target[1].running_mean, online[1].running_mean)
    torch.testing.assert_close(target[0].weight, before + 0.25)
