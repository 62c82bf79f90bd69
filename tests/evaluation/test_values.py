"""Q-values of many observations are those of each by itself, to the bit."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from sndqn.evaluation.values import NetworkValues, one_thread
from sndqn.networks import make_q_network

ACTIONS = spaces.Discrete(6)
SPACES: dict[str, spaces.Space[Any]] = {
    "screens": spaces.Box(0, 255, (4, 84, 84), np.uint8),
    "grids": spaces.Box(0, 1, (7, 10, 10), np.uint8),
    "vectors": spaces.Box(-9, 9, (4,), np.float32),
    "numbers": spaces.Discrete(12),
    "dicts": spaces.Dict(
        {"a": spaces.Box(-1, 1, (3,), np.float32), "b": spaces.Box(0, 255, (1, 36, 36), np.uint8)}
    ),
}
# Of dqn, dueling dqn, c51, qr-dqn and iqn.
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("linear", {}),
    "dueling": ("linear", {"dueling": True}),
    "categorical": ("categorical", {}),
    "quantile": ("quantile", {"dueling": True}),
    "implicit": ("implicit_quantile", {}),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", SPACES)
def test_a_row_depends_neither_on_the_others_nor_on_their_number_nor_on_its_place(
    kind: str, head: str
) -> None:
    torch.manual_seed(0)
    name, kwargs = HEADS[head]
    hidden = (128,)
    network = make_q_network(
        SPACES[kind],
        ACTIONS,
        head=name,  # type: ignore[arg-type]
        head_kwargs=kwargs,
        net_arch=hidden,
        sn_layers="-2",
    ).eval()
    values = NetworkValues(network)
    space = SPACES[kind]
    space.seed(1)
    drawn = [space.sample() for _ in range(37)]
    with one_thread():
        alone = np.stack([values(observation) for observation in drawn])
        for numbers in (
            range(37),
            range(36, -1, -1),
            range(0, 37, 4),
            range(5),
            (9, 8, 7, 6, 5, 4),
            (5, 5, 30),
            (11, 2),
        ):
            rows = values.of_many([drawn[number] for number in numbers])
            np.testing.assert_array_equal(rows, alone[list(numbers)])
    assert alone.shape == (37, 6)
    assert len(np.unique(alone, axis=0)) > 1


class Placed(nn.Module):
    """A network that answers by the place of a row, from the given size of a batch on."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.observation_space = SPACES["vectors"]
        self.weight = nn.Parameter(torch.ones(1))
        self.size = size

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        places = torch.arange(len(batch)) if len(batch) >= self.size else torch.zeros(len(batch))
        return batch[:, :2] + places[:, None]


@pytest.mark.parametrize("size", [2, 3, 16, 100])
def test_sizes_of_batches_in_which_places_matter_are_not_used(size: int) -> None:
    values, space = NetworkValues(Placed(size)), SPACES["vectors"]
    drawn = [space.sample() for _ in range(20)]
    np.testing.assert_array_equal(values.of_many(drawn), np.stack(drawn)[:, :2])


def test_trying_sizes_leaves_the_spaces_own_random_numbers_alone() -> None:
    space = spaces.Box(-1, 1, (3,), np.float32, seed=5)
    expected = spaces.Box(-1, 1, (3,), np.float32, seed=5).sample()
    NetworkValues(make_q_network(space, ACTIONS).eval())(np.zeros(3, np.float32))
    np.testing.assert_array_equal(space.sample(), expected)


def test_one_thread_leaves_as_many_as_there_were() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
