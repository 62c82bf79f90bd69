"""The description of a network: its arguments, its defaults written out, its names in one place."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from torch import nn

from sndqn.errors import ConfigError
from sndqn.networks import (
    NatureCNN,
    NetworkSpec,
    SpectralSettings,
    extractors,
    make_q_network,
)
from sndqn.networks.extractors import EXTRACTORS, TORSOS, nature_cnn
from sndqn.networks.heads import HEADS

VECTOR = spaces.Box(-1, 1, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (2, 36, 36), np.uint8)
ACTIONS = spaces.Discrete(3)
CNNS = {"nature_cnn": 512, "der_cnn": 256, "minatar_cnn": 128, "impala_cnn": 256}


@pytest.mark.parametrize("name", TORSOS)
def test_every_torso_is_a_features_extractor_that_is_saved_by_name(name: str) -> None:
    extractor: Any = EXTRACTORS[name]
    saved = pickle.dumps(extractor)
    assert pickle.loads(saved) is extractor  # noqa: S301
    module = "stable_baselines3" if name == "combined" else "sndqn.networks.extractors"
    assert extractor.__module__.startswith(module)
    assert extractor.__name__.encode() in saved
    assert NetworkSpec(extractor) == NetworkSpec(name)


@pytest.mark.parametrize(("name", "units"), CNNS.items())
def test_the_table_knows_the_dense_layer_that_a_torso_ends_with(name: str, units: int) -> None:
    assert TORSOS[name].features_dim == units
    torso: Any = EXTRACTORS[name](IMAGE)
    assert torso.features_dim == units
    assert {n for n in TORSOS if TORSOS[n].features_dim} == set(CNNS)


def test_arguments_change_the_field_of_their_name_and_no_other() -> None:
    spec = NetworkSpec("mlp", net_arch=(9,), spectral=SpectralSettings("none", bound=0.5))
    found = spec.changed(sn_layers=[-2, -1], sn_power_iterations=3, activation_fn=nn.Tanh)
    assert found == NetworkSpec(
        "mlp",
        net_arch=(9,),
        activation="tanh",
        spectral=SpectralSettings("-2,-1", bound=0.5, n_power_iterations=3),
    )
    assert spec.changed() == spec


def test_streams_and_noise_are_arguments_of_the_network_or_of_its_head() -> None:
    flags = {"dueling": True, "noisy": True}
    of_head = NetworkSpec().changed(head="quantile", head_kwargs={"n_quantiles": 3, **flags})
    assert of_head == NetworkSpec(head="quantile", head_kwargs={"n_quantiles": 3}, **flags)
    assert of_head == NetworkSpec().changed(
        head="quantile", head_kwargs={"n_quantiles": 3}, **flags
    )


def test_a_class_of_ones_own_has_no_name_and_stays() -> None:
    spec = NetworkSpec(FlattenExtractor, activation=nn.Hardswish)
    assert (spec.torso, spec.activation_fn) == (FlattenExtractor, nn.Hardswish)


@pytest.mark.parametrize("torso", CNNS)
def test_an_implicit_quantile_head_has_the_dense_layer_of_a_cnn_behind_its_embedding(
    torso: str,
) -> None:
    spec = NetworkSpec(torso, head="implicit_quantile").resolved(IMAGE)
    assert (spec.torso_kwargs, spec.net_arch) == ({"features_dim": 0}, (CNNS[torso],))
    assert spec.resolved(IMAGE) == spec
    head: Any = make_q_network(IMAGE, ACTIONS, spec, sn_layers="none").q_net
    units = [layer.out_features for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert units == [head.embedding.out_features, CNNS[torso], 3]


@pytest.mark.parametrize(
    ("given", "torso_kwargs", "net_arch"),
    [
        ({"net_arch": ()}, {}, ()),
        ({"torso_kwargs": {"features_dim": 0}}, {"features_dim": 0}, ()),
        ({"torso_kwargs": {"features_dim": 16}}, {"features_dim": 16}, ()),
        ({"head": "quantile"}, {}, ()),
        ({"torso": "mlp"}, {}, (64, 64)),
        ({"torso": SB3NatureCNN}, {}, ()),
        ({"torso": FlattenExtractor}, {}, (64, 64)),
    ],
)
def test_given_sizes_and_other_networks_keep_their_layers_where_they_are(
    given: dict[str, Any], torso_kwargs: dict[str, Any], net_arch: tuple[int, ...]
) -> None:
    spec = NetworkSpec("nature_cnn", head="implicit_quantile").changed(**given).resolved(IMAGE)
    assert (spec.torso_kwargs, spec.net_arch) == (torso_kwargs, net_arch)


def test_what_fits_and_the_numbers_of_the_head_are_written_out() -> None:
    found = NetworkSpec(head="categorical", head_kwargs={"v_max": 20.0}).resolved(VECTOR)
    numbers = {"n_atoms": 51, "v_min": -10.0, "v_max": 20.0}
    assert (found.torso, found.net_arch, found.head_kwargs) == ("mlp", (64, 64), numbers)


@pytest.mark.parametrize("head", HEADS)
def test_a_description_written_out_builds_the_same_network(head: str) -> None:
    networks = []
    for spec in (NetworkSpec(head=head), NetworkSpec(head=head).resolved(VECTOR)):
        torch.manual_seed(0)
        networks.append(make_q_network(VECTOR, ACTIONS, spec).state_dict())
    first, second = networks
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"torso": "resnet"}, "torso: expected one of mlp, nature_cnn, .* found 'resnet'"),
        ({"head": "dueling"}, "head: expected one of linear, categorical, .* found 'dueling'"),
        ({"activation": "sine"}, "activation: expected one of relu, tanh, .* found 'sine'"),
    ],
)
def test_a_name_that_nothing_has_is_refused_with_those_there_are(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        NetworkSpec(**given)


def test_an_extractor_is_its_torso() -> None:
    torso = nature_cnn(IMAGE, features_dim=8)
    assert isinstance(torso, NatureCNN)
    assert list(torso.state_dict()) == list(NatureCNN((2, 36, 36), 8).state_dict())


def test_an_extractor_that_there_is_not_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'resnet'"):
        extractors.resnet  # noqa: B018
