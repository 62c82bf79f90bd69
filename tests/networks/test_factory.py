"""The Q-network factory: the network that fits, its first weights, what SN promises of it."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
)
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from stable_baselines3.dqn.policies import QNetwork as SB3QNetwork
from torch import Tensor, nn

from sndqn.errors import ConfigError, SelectionError, UnsupportedSpaceError
from sndqn.networks import (
    MLP,
    MinAtarCNN,
    NatureCNN,
    NetworkSpec,
    QNetwork,
    SpectralSettings,
    make_q_network,
)
from sndqn.networks.extractors import default_torso
from sndqn.networks.factory import zero_observation
from sndqn.spectral import SpectralConv2d, SpectralLayer, select_layers, weight_layers

ACTIONS = spaces.Discrete(3)
VECTOR = spaces.Box(-1, 1, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (2, 36, 36), np.uint8)
GRID = spaces.Box(0, 1, (4, 10, 10), np.uint8)
DICT = spaces.Dict({"image": IMAGE, "vector": VECTOR, "number": spaces.Discrete(4)})
SPACES: dict[str, spaces.Space[Any]] = {
    "vector": VECTOR,
    "matrix": spaces.Box(-1, 1, (3, 2), np.float64),
    "discrete": spaces.Discrete(6),
    "multi_discrete": spaces.MultiDiscrete([3, 2]),
    "multi_binary": spaces.MultiBinary(4),
    "image": IMAGE,
    "grid": GRID,
    "dict": DICT,
}


def batch_of(space: spaces.Space[Any], n: int = 4) -> Any:
    """A batch of samples, as the policy would give them to the network."""
    space.seed(0)
    samples = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: torch.as_tensor(np.stack([s[key] for s in samples])) for key in space.spaces}
    return torch.as_tensor(np.stack(samples))


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("name", SPACES)
def test_every_observation_space_gets_q_values_and_a_normalised_hidden_layer(
    name: str, dueling: bool
) -> None:
    space = SPACES[name]
    network = make_q_network(space, ACTIONS, head_kwargs={"dueling": dueling})
    q_values = network(batch_of(space))
    assert q_values.shape == (4, 3)
    assert bool(torch.isfinite(q_values).all())
    held = [m for m in network.modules() if isinstance(m, SpectralLayer)]
    streams = 2 if dueling and name not in ("image", "grid") else 1
    assert len(held) == streams
    assert all(m.exact_sigma() == pytest.approx(1, rel=1e-4) for m in held)


@pytest.mark.parametrize(
    ("name", "torso"),
    [("vector", MLP), ("discrete", MLP), ("image", NatureCNN), ("grid", MinAtarCNN)],
)
def test_the_default_torso_fits_the_observations(name: str, torso: type[nn.Module]) -> None:
    assert isinstance(make_q_network(SPACES[name], ACTIONS).features_extractor, torso)


def test_dict_observations_get_one_extractor_a_key() -> None:
    network = make_q_network(DICT, ACTIONS)
    assert isinstance(network.features_extractor, CombinedExtractor)
    assert default_torso(DICT) == "combined"


HEADS: dict[str, dict[str, Any]] = {
    "linear": {},
    "categorical": {"n_atoms": 5, "v_min": -1.0, "v_max": 2.0},
    "quantile": {"n_quantiles": 4},
    "implicit_quantile": {"n_cosines": 8, "n_acting_quantiles": 4},
}


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["vector", "grid", "dict"])
def test_every_head_is_at_home_on_every_torso(
    name: str, head: Any, dueling: bool, noisy: bool
) -> None:
    space, kwargs = SPACES[name], {**HEADS[head], "dueling": dueling, "noisy": noisy}
    layers = "none" if noisy else "-2"
    network = make_q_network(space, ACTIONS, head=head, head_kwargs=kwargs, sn_layers=layers)
    observations = batch_of(space)
    outputs = network.outputs(observations)
    sizes = {"categorical": (5,), "quantile": (4,), "implicit_quantile": (4,)}
    assert outputs.shape == (4, 3, *sizes.get(head, ()))
    network.eval()
    expected = network.q_net.q_values(network.outputs(observations))
    assert torch.equal(network(observations), expected)


def test_fractions_reach_an_implicit_quantile_head() -> None:
    network = make_q_network(VECTOR, ACTIONS, head="implicit_quantile", sn_layers="none")
    observations, fractions = batch_of(VECTOR), torch.rand(4, 7)
    found = network.outputs(observations, fractions)
    features = network.features_extractor(network.prepare(observations))
    assert torch.equal(found, network.q_net.outputs(features, fractions))
    assert not torch.allclose(found, network.outputs(observations, 1 - fractions))


@pytest.mark.parametrize("head", HEADS)
def test_a_description_builds_the_network_it_describes(head: Any) -> None:
    spec = NetworkSpec(
        torso="minatar_cnn",
        torso_kwargs={"channels": (4,), "features_dim": 8},
        head=head,
        head_kwargs=HEADS[head],
        dueling=True,
        net_arch=(6,),
        activation="tanh",
        spectral=SpectralSettings(layers="-2", mode="track", scheduler="mul_eps"),
    )
    torch.manual_seed(0)
    built = make_q_network(GRID, ACTIONS, spec)
    torch.manual_seed(0)
    network = make_q_network(
        GRID, ACTIONS, torso="minatar_cnn", torso_kwargs={"channels": (4,), "features_dim": 8},
        head=head, head_kwargs={"dueling": True, **HEADS[head]}, net_arch=(6,),
        activation_fn=nn.Tanh, sn_mode="track", sn_scheduler="mul_eps",
    )  # fmt: skip
    grids = batch_of(GRID)
    assert torch.equal(built.outputs(grids), network.outputs(grids))
    assert built.scheduler is not None
    assert built.scheduler.name == "mul_eps"
    assert len(built.scheduler.layers) == 2, "a hidden layer in each stream"


def test_hidden_layers_stand_between_an_mlp_and_its_output_but_not_after_a_cnn() -> None:
    assert len(weight_layers(make_q_network(VECTOR, ACTIONS))) == 3
    assert len(weight_layers(make_q_network(IMAGE, ACTIONS))) == 5
    assert len(weight_layers(make_q_network(GRID, ACTIONS))) == 3
    assert len(weight_layers(make_q_network(GRID, ACTIONS, net_arch=(32,)))) == 4


def test_torso_arguments_reach_the_torso() -> None:
    torso = {"channels": (8, 8), "features_dim": 20}
    network = make_q_network(GRID, ACTIONS, torso="minatar_cnn", torso_kwargs=torso)
    assert [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)] == [8, 8]
    assert network.features_extractor.features_dim == 20


def test_an_image_may_be_flattened_and_a_grid_seen_by_an_mlp() -> None:
    for space in (IMAGE, GRID):
        network = make_q_network(space, ACTIONS, torso="mlp", net_arch=(8,))
        assert network(batch_of(space)).shape == (4, 3)


class SumExtractor(BaseFeaturesExtractor):
    """A user's own features extractor, in Stable-Baselines3's manner."""

    def __init__(self, observation_space: spaces.Box, features_dim: int = 7) -> None:
        super().__init__(observation_space, features_dim)
        self.first = nn.Linear(observation_space.shape[0], features_dim)

    def forward(self, observations: Tensor) -> Tensor:
        return self.first(observations)


@pytest.mark.parametrize("as_instance", [False, True], ids=["class", "instance"])
def test_a_users_features_extractor_is_a_torso_and_its_layers_count(as_instance: bool) -> None:
    torso: Any = SumExtractor(VECTOR, 9) if as_instance else SumExtractor
    kwargs = {} if as_instance else {"features_dim": 9}
    network = make_q_network(
        VECTOR, ACTIONS, torso=torso, torso_kwargs=kwargs, net_arch=(6,), sn_layers="-3"
    )
    assert isinstance(network.features_extractor, SumExtractor)
    assert isinstance(network.features_extractor.first, SpectralLayer)
    assert network(batch_of(VECTOR)).shape == (4, 3)


def test_images_are_divided_by_255_unless_told_not_to() -> None:
    torch.manual_seed(0)
    divided = make_q_network(IMAGE, ACTIONS, sn_layers="none")
    raw = make_q_network(IMAGE, ACTIONS, sn_layers="none", normalize_images=False)
    raw.load_state_dict(divided.state_dict())
    images = batch_of(IMAGE)
    inside = divided.q_net(divided.features_extractor(images.float() / 255))
    torch.testing.assert_close(divided(images), inside)
    torch.testing.assert_close(
        raw(images), divided.q_net(divided.features_extractor(images.float()))
    )


def test_a_grid_of_zeros_and_ones_is_not_divided() -> None:
    network = make_q_network(GRID, ACTIONS, sn_layers="none")
    grids = batch_of(GRID)
    expected = network.q_net(network.features_extractor(grids.float()))
    assert torch.equal(network(grids), expected)


def sb3_network(space: spaces.Space[Any], extractor: Callable[..., Any]) -> SB3QNetwork:
    torso = extractor(space)
    net_arch = [] if extractor is SB3NatureCNN else [64, 64]
    return SB3QNetwork(space, ACTIONS, torso, torso.features_dim, net_arch)


@pytest.mark.parametrize("layers", ["none", "-2", "all"])
@pytest.mark.parametrize(
    ("space", "extractor"),
    [(VECTOR, FlattenExtractor), (IMAGE, SB3NatureCNN), (DICT, CombinedExtractor)],
    ids=["vector", "image", "dict"],
)
def test_first_weights_are_stable_baselines3s_with_or_without_sn(
    space: spaces.Space[Any], extractor: Any, layers: str
) -> None:
    torch.manual_seed(3)
    reference = sb3_network(space, extractor)
    after = torch.rand(1)
    torch.manual_seed(3)
    ours = make_q_network(space, ACTIONS, sn_layers=layers)
    assert torch.equal(torch.rand(1), after), "the random state moves on alike"
    expected, found = dict(reference.named_parameters()), dict(ours.named_parameters())
    assert list(expected) == list(found)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_without_sn_the_function_is_stable_baselines3s() -> None:
    torch.manual_seed(3)
    reference = sb3_network(IMAGE, SB3NatureCNN)
    torch.manual_seed(3)
    ours = make_q_network(IMAGE, ACTIONS, sn_layers="none")
    # Up to the order of sums: ours computes with channels last.
    torch.testing.assert_close(ours(batch_of(IMAGE)), reference(batch_of(IMAGE)))


@pytest.mark.parametrize("conv_norm", ["operator", "kernel"])
def test_settings_reach_every_selected_layer(conv_norm: Any) -> None:
    network = make_q_network(
        IMAGE,
        ACTIONS,
        sn_layers="convs",
        sn_bound=0.5,
        sn_mode="shrink",
        sn_conv_norm=conv_norm,
        sn_power_iterations=2,
        sn_grad_through_norm=False,
    )
    held = [m for m in network.modules() if isinstance(m, SpectralConv2d)]
    assert [m.input_size for m in held] == [(36, 36), (8, 8), (3, 3)]
    for m in held:
        assert (float(m.bound), m.mode, m.conv_norm) == (0.5, "shrink", conv_norm)
        assert (m.n_power_iterations, m.grad_through_norm) == (2, False)
        assert m.exact_sigma() <= 0.5 * (1 + 1e-4)


def test_initial_bound_keeps_the_function() -> None:
    plain = make_q_network(VECTOR, ACTIONS, sn_layers="none")
    held = make_q_network(VECTOR, ACTIONS, sn_layers="all", sn_bound="initial")
    held.load_state_dict(plain.state_dict(), strict=True)
    observations = batch_of(VECTOR)
    torch.testing.assert_close(held.eval()(observations), plain.eval()(observations))


@pytest.mark.parametrize("conv_norm", ["operator", "kernel"])
@pytest.mark.parametrize(("space", "sn_layers"), [(VECTOR, "-2"), (IMAGE, "all"), (GRID, "-2,-3")])
@pytest.mark.parametrize("sn_bound", [1.0, 0.3])
def test_scaled_initial_weights_make_the_function_of_sn_and_stay_plain(
    space: Any, sn_layers: str, sn_bound: float, conv_norm: Any
) -> None:
    networks = []
    for mode in ("normalize", "init"):
        torch.manual_seed(0)
        settings = {"sn_layers": sn_layers, "sn_bound": sn_bound, "sn_conv_norm": conv_norm}
        networks.append(make_q_network(space, ACTIONS, sn_mode=mode, **settings))
    held, scaled = networks
    observations = batch_of(space)
    torch.testing.assert_close(
        scaled(observations), held.eval()(observations), rtol=1e-5, atol=1e-6
    )
    assert not any(isinstance(module, SpectralLayer) for module in scaled.modules())
    torch.manual_seed(0)
    plain = make_q_network(space, ACTIONS, sn_layers="none")
    changed = {
        entry.index
        for entry, other in zip(weight_layers(scaled), weight_layers(plain), strict=True)
        if not torch.equal(entry.layer.weight, other.layer.weight)
    }
    assert changed == {entry.index for entry in select_layers(held, sn_layers)}


def test_scaled_initial_weights_need_a_number_as_bound() -> None:
    with pytest.raises(ConfigError, match="sn_mode init: scales initial weights"):
        make_q_network(VECTOR, ACTIONS, sn_mode="init", sn_bound="initial")


def slopes(network: QNetwork, x: Tensor, y: Tensor) -> Tensor:
    """|Q(x) - Q(y)| / |x - y| of each pair of prepared observations."""

    def q(prepared: Tensor) -> Tensor:
        return network.q_net(network.features_extractor(prepared))

    return (q(x) - q(y)).norm(dim=1) / (x - y).flatten(1).norm(dim=1)


def steepest_pairs(network: QNetwork, x: Tensor, steps: int = 6) -> Tensor:
    """Seeks steep pairs: the direction of the pair follows the gradient of its slope."""
    direction = torch.randn_like(x)
    for _ in range(steps):
        direction = direction.detach().requires_grad_()
        slope = slopes(network, x, x + direction)
        (gradient,) = torch.autograd.grad(slope.sum(), direction)
        unit = gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(
            -1, *[1] * (x.dim() - 1)
        )
        length = direction.detach().flatten(1).norm(dim=1).view(-1, *[1] * (x.dim() - 1))
        direction = direction.detach() + 0.5 * length * unit
    return direction.detach()


@pytest.mark.parametrize("bound", [1.0, 0.5])
@pytest.mark.parametrize("name", ["vector", "image", "grid"])
def test_no_pair_of_inputs_is_steeper_than_the_product_of_the_layers_norms(
    name: str, bound: float
) -> None:
    torch.manual_seed(1)
    space = SPACES[name]
    kwargs: dict[str, Any] = {"net_arch": (8, 8)} if name == "vector" else {}
    network = make_q_network(space, ACTIONS, sn_layers="all", sn_bound=bound, **kwargs).eval()
    held = [m for m in network.modules() if isinstance(m, SpectralLayer)]
    assert len(held) == len(weight_layers(network))
    with torch.no_grad():
        for m in held:
            assert m.bias is not None
            m.bias.normal_()  # a bias moves values, never slopes
    ceiling = math.prod(m.exact_sigma() for m in held)
    assert ceiling == pytest.approx(bound ** len(held), rel=1e-3)
    x = torch.rand(16, *space.shape)  # type: ignore[misc]
    random_pairs = slopes(network, x, torch.rand_like(x)).detach()
    sought = slopes(network, x, x + steepest_pairs(network, x)).detach()
    assert float(random_pairs.max()) <= ceiling * (1 + 1e-4)
    assert float(sought.max()) <= ceiling * (1 + 1e-4)
    assert float(sought.max()) > float(random_pairs.max())


def test_a_single_layer_reaches_its_bound_so_the_bound_is_not_slack() -> None:
    torch.manual_seed(0)
    network = make_q_network(VECTOR, ACTIONS, net_arch=(), sn_layers="all", sn_bound=2.0).eval()
    x = torch.rand(16, 5)
    sought = slopes(network, x, x + steepest_pairs(network, x, steps=60)).detach()
    assert 1.95 < float(sought.max()) <= 2.0 * (1 + 1e-4)


def test_the_same_seed_makes_the_same_network() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(make_q_network(GRID, ACTIONS, sn_layers="all").state_dict())
    assert all(itertools.starmap(torch.equal, zip(*(s.values() for s in states), strict=True)))


def test_a_zero_observation_draws_nothing_from_the_space() -> None:
    space = spaces.Dict({"image": spaces.Box(0, 255, (1, 36, 36), np.uint8), "vector": VECTOR})
    space.seed(0)
    expected = space.sample()["vector"]
    space.seed(0)
    zero = zero_observation(space)
    assert isinstance(zero, dict)
    assert zero["image"].shape == (1, 1, 36, 36)
    assert zero["image"].dtype == torch.uint8
    assert np.array_equal(space.sample()["vector"], expected)


class TestRefusals:
    def test_continuous_actions(self) -> None:
        with pytest.raises(UnsupportedSpaceError, match="needs Discrete actions, found Box"):
            make_q_network(VECTOR, spaces.Box(-1, 1, (2,)))

    def test_channels_last(self) -> None:
        space = spaces.Box(0, 255, (36, 36, 3), np.uint8)
        with pytest.raises(UnsupportedSpaceError, match="VecTransposeImage"):
            make_q_network(space, ACTIONS)

    @pytest.mark.parametrize("torso", ["nature_cnn", "minatar_cnn"])
    def test_a_cnn_for_vectors(self, torso: Any) -> None:
        with pytest.raises(UnsupportedSpaceError, match='Use torso "mlp"'):
            make_q_network(VECTOR, ACTIONS, torso=torso)

    def test_an_unknown_torso(self) -> None:
        with pytest.raises(
            ConfigError,
            match="expected one of mlp, nature_cnn, der_cnn, minatar_cnn, impala_cnn, combined",
        ):
            make_q_network(VECTOR, ACTIONS, torso="resnet")

    def test_an_unknown_head(self) -> None:
        with pytest.raises(ConfigError, match=r"linear.*quantile.*found 'dueling'"):
            make_q_network(VECTOR, ACTIONS, head="dueling")

    def test_an_unknown_argument(self) -> None:
        with pytest.raises(TypeError, match="a network has no argument 'sn_bond'"):
            make_q_network(VECTOR, ACTIONS, sn_bond=0.5)

    @pytest.mark.parametrize("size", [(1, 20, 20), (1, 36, 35)])
    def test_an_image_too_small_for_the_nature_cnn(self, size: tuple[int, ...]) -> None:
        with pytest.raises(UnsupportedSpaceError, match="36 x 36"):
            make_q_network(spaces.Box(0, 255, size, np.uint8), ACTIONS, torso="nature_cnn")

    def test_a_layer_that_is_not_there(self) -> None:
        with pytest.raises(SelectionError, match=r"-1: q_net\.0"):
            make_q_network(VECTOR, ACTIONS, net_arch=(), sn_layers="-2")

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ({"sn_bound": -1.0}, "bound: expected a positive number"),
            ({"sn_mode": "clip"}, 'mode: expected "normalize", "shrink" or "track"'),
            ({"sn_power_iterations": 0}, "n_power_iterations: expected 1 or more"),
        ],
    )
    def test_spectral_settings_out_of_range(self, setting: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            make_q_network(VECTOR, ACTIONS, **setting)
