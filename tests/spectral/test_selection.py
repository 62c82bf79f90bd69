"""Which layers a selection means, and what an impossible one says."""

from typing import Any

import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sndqn.errors import SelectionError
from sndqn.networks import DuelingHead, NatureCNN, make_q_network
from sndqn.networks.torsos import ImpalaCNN
from sndqn.spectral import format_selection, select_layers, weight_layers
from sndqn.spectral.selection import parse_selection


@pytest.fixture(scope="module")
def nature() -> nn.Module:
    return nn.Sequential(NatureCNN((4, 36, 36)), nn.Sequential(nn.Linear(512, 3)))


@pytest.fixture(scope="module")
def dueling() -> nn.Module:
    return nn.Sequential(NatureCNN((4, 36, 36)), DuelingHead(512, 3, (16,)))


def names(network: nn.Module, selection: Any) -> list[str]:
    return [entry.name for entry in select_layers(network, selection)]


def test_the_nature_network_counts_from_its_output_back(nature: nn.Module) -> None:
    assert [(entry.index, entry.name) for entry in weight_layers(nature)] == [
        (-5, "0.cnn.0"),
        (-4, "0.cnn.2"),
        (-3, "0.cnn.4"),
        (-2, "0.linear.0"),
        (-1, "1.0"),
    ]
    (hidden,) = select_layers(nature, "-2")
    assert hidden.layer.out_features == 512


def test_dueling_streams_share_their_indices(dueling: nn.Module) -> None:
    streams = "1.streams"
    assert names(dueling, -1) == [f"{streams}.value.2", f"{streams}.advantage.2"]
    assert names(dueling, -2) == [f"{streams}.value.0", f"{streams}.advantage.0"]
    assert names(dueling, -3) == ["0.linear.0"]
    assert [entry.index for entry in weight_layers(dueling)] == [-6, -5, -4, -3, -2, -2, -1, -1]


def test_streams_of_unequal_depth_are_counted_from_their_ends() -> None:
    class Sides(nn.Module):
        parallel = True

        def __init__(self) -> None:
            super().__init__()
            self.deep = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
            self.shallow = nn.Linear(4, 2)

    network = nn.Sequential(nn.Linear(4, 4), Sides())
    assert names(network, "-1") == ["1.deep.1", "1.shallow"]
    assert names(network, "-2") == ["1.deep.0"]
    assert names(network, "-3") == ["0"]


def test_a_network_without_convolutions_has_none_to_select() -> None:
    with pytest.raises(SelectionError, match="no layer 'convs'"):
        select_layers(nn.Linear(2, 2), "convs")


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("all", ["0.cnn.0", "0.cnn.2", "0.cnn.4", "0.linear.0", "1.0"]),
        ("none", []),
        ([], []),
        ("convs", ["0.cnn.0", "0.cnn.2", "0.cnn.4"]),
        (-2, ["0.linear.0"]),
        ("-2", ["0.linear.0"]),
        (" -1 , -2 ", ["0.linear.0", "1.0"]),
        ([-1, -2], ["0.linear.0", "1.0"]),
        ((-2, -2), ["0.linear.0"]),
        ("0.cnn.2", ["0.cnn.2"]),
        ("0.cnn", ["0.cnn.0", "0.cnn.2", "0.cnn.4"]),
        ([-1, "0.linear"], ["0.linear.0", "1.0"]),
        (["-1", "convs"], ["0.cnn.0", "0.cnn.2", "0.cnn.4", "1.0"]),
        ([0], ["0.cnn.0"]),
        ("4", ["1.0"]),
    ],
)
def test_selections_mean_their_layers_in_forward_order(
    nature: nn.Module, selection: Any, expected: list[str]
) -> None:
    assert names(nature, selection) == expected


def test_a_prefix_ends_at_a_dot() -> None:
    network = nn.ModuleDict({"part": nn.Linear(2, 2), "part_two": nn.Linear(2, 2)})
    assert names(network, "part") == ["part"]


@pytest.fixture(scope="module")
def residual() -> nn.Module:
    return nn.ModuleDict({"torso": ImpalaCNN((2, 10, 10), features_dim=8), "head": nn.Linear(8, 3)})


def test_a_word_between_dots_means_every_layer_that_bears_it(residual: nn.Module) -> None:
    chosen = names(residual, "residual")
    assert len(chosen) == 12
    assert chosen == [entry.name for entry in weight_layers(residual) if "resid" in entry.name]
    assert names(residual, "entry") == [f"torso.stages.{i}.entry" for i in range(3)]
    assert names(residual, ["linear", "head"]) == ["torso.linear.0", "head"]


def test_words_go_together_with_other_parts(residual: nn.Module) -> None:
    assert len(names(residual, "residual,-1")) == 13
    assert names(residual, "residual,entry") == names(residual, "convs")


@pytest.mark.parametrize("selection", ["resid", "residual.0", "esidual", "residual.", "stages.0"])
def test_a_word_is_one_whole_component(residual: nn.Module, selection: str) -> None:
    with pytest.raises(SelectionError, match="words between their dots"):
        select_layers(residual, selection)


def test_a_word_means_a_part_of_that_name_and_components_elsewhere() -> None:
    def layer() -> nn.Module:
        return nn.Linear(2, 2)

    network = nn.ModuleDict({"a": nn.ModuleDict({"b": layer()}), "b": layer(), "c": layer()})
    assert names(network, "b") == ["a.b", "b"]


def test_names_are_those_of_the_whole_q_network() -> None:
    network = make_q_network(
        spaces.Box(-1, 1, (3,)), spaces.Discrete(2), net_arch=(4,), sn_layers="none"
    )
    assert names(network, "q_net") == ["q_net.0", "q_net.2"]


@pytest.mark.parametrize("selection", [-6, 5, "-6", "nonsense", "0.cn", [-2, "0.cnn.1"], "ALL"])
def test_a_layer_that_is_not_there_is_refused_with_those_that_are(
    nature: nn.Module, selection: Any
) -> None:
    with pytest.raises(SelectionError) as refusal:
        select_layers(nature, selection)
    message = str(refusal.value)
    for entry in weight_layers(nature):
        assert f"{entry.index}: {entry.name}" in message
    assert "--sn-layers -2,-3" in message


@pytest.mark.parametrize(
    "selection", ["", " ", "-2,", ",", [None], [True], True, [1.5], [""], ["-2", []], None, 1.5]
)
def test_what_is_not_a_selection_is_refused_with_what_one_is(selection: Any) -> None:
    with pytest.raises(SelectionError, match='expected "-2", "-2,-3", "all"'):
        parse_selection(selection)


@pytest.mark.parametrize("selection", ["none,-2", "-2,none", ["none", -1]])
def test_none_stands_alone(nature: nn.Module, selection: Any) -> None:
    with pytest.raises(SelectionError, match='"none" stands alone'):
        select_layers(nature, selection)


def test_a_network_without_weight_layers_has_only_none() -> None:
    assert names(nn.ReLU(), "none") == []
    with pytest.raises(SelectionError, match="no layer '-1'"):
        select_layers(nn.ReLU(), -1)
    with pytest.raises(SelectionError, match="no layer '0'"):
        select_layers(nn.ReLU(), 0)


words = st.from_regex(r"[a-z_][a-z0-9_]*(\.[a-z0-9_]+)*", fullmatch=True).filter(
    lambda word: word != "none"
)
parts = st.lists(st.integers(-99, 99) | words, min_size=1, max_size=6)


@given(parts)
def test_canonical_text_means_the_same_and_is_its_own_canonical_text(
    selection: list[int | str],
) -> None:
    text = format_selection(selection)
    assert parse_selection(text) == selection
    assert format_selection(text) == text


@given(st.lists(st.integers(-5, -1), min_size=1, max_size=5))
def test_lists_and_text_select_the_same(selection: list[int]) -> None:
    network = nn.Sequential(*(nn.Linear(1, 1) for _ in range(5)))
    assert names(network, selection) == names(network, format_selection(selection))


def test_selection_changes_nothing(nature: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in nature.state_dict().items()}
    select_layers(nature, "all")
    assert all(torch.equal(nature.state_dict()[name], value) for name, value in before.items())
