"""An environment's observations become a network's in one place, and are what their space says."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

from sndqn.envs.observations import ArrangedObservations
from sndqn.errors import ObservationError, UnsupportedSpaceError

U8, F32 = np.uint8, np.float32


class Showing(gymnasium.Env[Any, Any]):
    """Shows the same observation always."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space[Any], observation: Any = None) -> None:
        self.observation_space = space
        space.seed(0)
        self.shown = space.sample() if observation is None else observation

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.shown, {}


def arranged(space: spaces.Space[Any], observation: Any = None) -> tuple[spaces.Space[Any], Any]:
    env = ArrangedObservations(Showing(space, observation), "Game-v0")
    return env.observation_space, env.reset()[0]


def picture(*shape: int, high: float = 255, dtype: Any = U8) -> spaces.Box:
    return spaces.Box(0, high, shape, dtype)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (picture(40, 44, 3), picture(3, 40, 44)),
        (picture(40, 44, 1), picture(1, 40, 44)),
        (picture(3, 40, 44), picture(3, 40, 44)),
        (picture(7, 7, 3), picture(3, 7, 7)),
        (picture(40, 44), picture(1, 40, 44)),
        (picture(9, 9), picture(9, 9)),
        (
            picture(40, 44, 3, high=1, dtype=np.float32),
            picture(3, 40, 44, high=1, dtype=np.float32),
        ),
        (picture(40, 44, 3, dtype=np.float32), picture(3, 40, 44, high=1, dtype=np.float32)),
        (picture(10, 10, 4, high=1), picture(4, 10, 10, high=1)),
        (picture(6, 10, 10, high=1), picture(6, 10, 10, high=1)),
        (spaces.Box(-1, 1, ()), spaces.Box(-1, 1, (1,))),
        (spaces.Box(0, 9, (2,), np.uint16), spaces.Box(0, 9, (2,), np.int32)),
        (spaces.Discrete(5, start=3), spaces.Discrete(5)),
        (spaces.Discrete(5, start=-2), spaces.Discrete(5)),
        (spaces.MultiDiscrete([3, 4], start=[2, -1]), spaces.MultiDiscrete([3, 4])),
        (spaces.MultiDiscrete([[3, 4], [2, 2]]), spaces.MultiDiscrete([3, 4, 2, 2])),
        (spaces.MultiBinary((2, 3)), spaces.MultiBinary(6)),
        (spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-np.inf, np.inf, (3,))),
    ],
)
def test_every_array_is_arranged_for_networks(
    space: spaces.Space[Any], expected: spaces.Space[Any]
) -> None:
    for nested in (False, True):
        found, observation = arranged(spaces.Dict({"a.b": space}) if nested else space)
        if nested and space == picture(7, 7, 3):  # no network of a Dict has so small a CNN
            assert found == spaces.Dict({"a_b": spaces.Box(0, 1, (147,))})
        else:
            assert found == (spaces.Dict({"a_b": expected}) if nested else expected)
        assert found.contains(observation)
        parts = found.values() if isinstance(found, spaces.Dict) else [found]
        for part in parts:  # or Stable-Baselines3 would transpose it once more
            assert not is_image_space(part) or is_image_space_channels_first(part)


def test_a_transposed_image_is_the_same_image() -> None:
    shown = np.arange(40 * 44 * 3).reshape(40, 44, 3).astype(U8)
    _, image = arranged(picture(40, 44, 3), shown)
    assert all((image[c] == shown[:, :, c]).all() for c in range(3))
    assert image.flags.c_contiguous
    _, scaled = arranged(picture(40, 44, 3, dtype=np.float32), shown.astype(np.float32))
    assert scaled.max() == 1
    assert arranged(spaces.Discrete(5, start=3), 4)[1] == 1


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Tuple((spaces.Discrete(3),)), "--wrapper gymnasium.wrappers:FlattenObservation"),
        (spaces.Dict(a=spaces.Dict(b=spaces.Discrete(2))), "Game-v0: a has Dict.*FlattenObserv"),
        (spaces.Text(5), "Game-v0 has Text"),
        (spaces.OneOf((spaces.Discrete(2),)), "Game-v0 has OneOf"),
        (spaces.Sequence(spaces.Discrete(2)), "one of your own that gives arrays"),
        (spaces.Graph(spaces.Box(-1, 1, (2,)), None), "one of your own that gives arrays"),
        (spaces.Dict({}), "an empty Dict"),
        (spaces.Dict({"a.b": spaces.Discrete(2), "a_b": spaces.Discrete(2)}), "keys that differ"),
        (spaces.Box(-1, 1, (0, 3)), "expected observations of numbers, found none"),
        (picture(40, 3, 44), "with fewer channels than pixels a side"),
    ],
)
def test_spaces_that_no_network_takes_are_refused(space: spaces.Space[Any], message: str) -> None:
    with pytest.raises(UnsupportedSpaceError, match=message):
        ArrangedObservations(Showing(space, 0), "Game-v0")


BOX = spaces.Box(-1, 1, (2,))


@pytest.mark.parametrize(
    ("space", "shown", "found"),
    [
        (BOX, np.zeros(3, np.float32), r"shape \(3,\), float32"),
        (BOX, np.zeros((1, 2), np.float32), r"shape \(1, 2\)"),
        (BOX, 0.5, "float '0.5'"),
        (BOX, "ab", "str 'ab'"),
        (BOX, {"a": 1}, "dict"),
        (BOX, [[1], [1, 2]], "list"),
        (spaces.Box(0, 9, (2,), U8), np.array([0.5, 1]), "float64"),
        (spaces.Box(0, 9, (2,), U8), np.array([-1, 300]), "int64"),
        (spaces.Discrete(3, start=1), 0, "from 1 to 3, found int '0'"),
        (spaces.Discrete(3), 1.5, "from 0 to 2, found float '1.5'"),
        (spaces.Discrete(3), [1], "from 0 to 2, found list"),
        (spaces.MultiDiscrete([2, 2]), np.array([0, 2]), "MultiDiscrete"),
        (spaces.Dict(a=BOX), {"b": 1}, r"keys \['a'\], found \['b'\]"),
        (spaces.Dict(a=BOX), 3, "found int '3'"),
    ],
)
def test_an_observation_unlike_its_space_is_refused_with_the_environments_name(
    space: spaces.Space[Any], shown: Any, found: str
) -> None:
    with pytest.raises(ObservationError, match=f"^Game-v0: .*{found}"):
        arranged(space, shown)


@pytest.mark.parametrize(
    ("space", "shown"),
    [
        (BOX, [0.5, -0.5]),
        (BOX, np.zeros(2, np.float64)),
        (BOX, np.zeros(2, np.int64)),
        (spaces.Box(0, 9, (2,), U8), np.array([1, 2], np.int64)),
        (spaces.Discrete(3), np.array(2)),
        (spaces.MultiBinary(2), [True, False]),
    ],
)
def test_the_same_numbers_in_other_words_become_the_spaces_own(
    space: spaces.Space[Any], shown: Any
) -> None:
    found, observation = arranged(space, shown)
    assert found.contains(observation)
    assert np.array_equal(observation, shown)
