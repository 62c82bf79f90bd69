"""The table of norms: true, and read without a trace."""

import io
import math

import pytest
import torch
from gymnasium import spaces
from rich.console import Console

from sndqn.diagnostics import convolved_sizes, layer_norms, quick_sigma
from sndqn.diagnostics.tables import layer_table
from sndqn.networks import make_q_network
from sndqn.spectral import exact_norm, weight_layers

IMAGE = spaces.Box(0, 255, (4, 44, 44), "uint8")
ACTIONS = spaces.Discrete(3)


def test_norms_are_the_exact_ones_and_reading_changes_nothing() -> None:
    torch.manual_seed(0)
    network = make_q_network(IMAGE, ACTIONS, sn_layers="-2,-3", sn_bound=2.0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    quick, exact = layer_norms(network, IMAGE), layer_norms(network, IMAGE, exact=True)
    assert [row.index for row in quick] == [-5, -4, -3, -2, -1]
    assert [row.bound for row in quick] == [None, None, 2.0, 2.0, None]
    for row, truth in zip(quick, exact, strict=True):
        assert row.raw == pytest.approx(truth.raw, rel=1e-3)
        assert truth.effective == pytest.approx(truth.bound or truth.raw, rel=1e-3)
    assert all(torch.equal(value, before[n]) for n, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training


@pytest.mark.parametrize("conv_norm", ["operator", "kernel"])
def test_the_quick_sigma_of_plain_layers_is_right_and_leaves_no_trace(conv_norm: str) -> None:
    torch.manual_seed(0)
    network = make_q_network(IMAGE, ACTIONS, sn_layers="none")
    truth = make_q_network(IMAGE, ACTIONS, sn_layers="all", sn_conv_norm=conv_norm)
    truth.load_state_dict(network.state_dict(), strict=False)
    state, modes = torch.get_rng_state(), [module.training for module in network.modules()]
    sizes = convolved_sizes(network, IMAGE)
    for plain, held in zip(weight_layers(network), weight_layers(truth), strict=True):
        weight = plain.layer.weight.clone()
        exact = exact_norm(weight, **held.layer.norm_arguments())
        sigma = quick_sigma(plain.layer, sizes, conv_norm)
        assert exact * 0.99 < sigma < exact * 1.0001
        assert torch.equal(plain.layer.weight, weight)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes


def test_the_sizes_that_convolutions_see_are_found_on_any_device() -> None:
    network = make_q_network(IMAGE, ACTIONS, sn_layers="none")
    here = list(convolved_sizes(network, IMAGE).values())
    assert here == [(44, 44), (10, 10), (4, 4)]
    assert list(convolved_sizes(network.to("meta"), IMAGE).values()) == here


def test_the_quick_sigma_of_a_weight_that_is_not_finite_is_no_number() -> None:
    layer = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(layer.weight, float("inf"))
    assert math.isnan(quick_sigma(layer, {}, "operator"))


def test_the_table_claims_no_bound_where_batches_are_normalised() -> None:
    network = make_q_network(IMAGE, ACTIONS, normalization="batch")
    console = Console(width=120, file=io.StringIO())
    console.print(layer_table(network, layer_norms(network, IMAGE)))
    assert isinstance(console.file, io.StringIO)
    assert "of this network the norms bound no slope" in console.file.getvalue()


def test_the_table_shows_every_layer_and_what_is_held() -> None:
    network = make_q_network(IMAGE, ACTIONS, sn_layers="-2", sn_mode="shrink", sn_bound=3.0)
    console = Console(record=True, width=120, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console:
        console.print(layer_table(network, layer_norms(network, IMAGE)))
    text = console.export_text()
    console.file.close()
    for row in layer_norms(network, IMAGE):
        assert row.name in text
    assert text.count("shrink to 3") == 1
    assert "no slope of Q is steeper than " in text


@pytest.mark.parametrize(("scheduler", "form"), [("div_grad", "layer"), ("div_out", "layer")])
def test_a_tracked_layer_acts_with_its_own_norm_unless_its_output_is_divided(
    scheduler: str, form: str
) -> None:
    network = make_q_network(
        IMAGE, ACTIONS, sn_mode="track", sn_scheduler=scheduler, sn_scheduler_form=form
    )
    *_, row, _ = rows = layer_norms(network, IMAGE)
    assert (row.index, row.mode, row.bound) == (-2, "track", 1.0)
    assert row.effective == pytest.approx(1 if scheduler == "div_out" else row.raw, rel=1e-3)
    assert abs(row.raw - 1) > 0.1
    console = Console(width=120, file=io.StringIO())
    console.print(layer_table(network, rows))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("only tracked") == 1
    assert "track to" not in text
