"""Observations arranged for networks: one place where an environment's become a network's.

Training, evaluation, traces and agent files all see the arranged environment, so they agree.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sndqn.errors import ObservationError, UnsupportedSpaceError

Array = npt.NDArray[Any]

# Sides that the Nature CNN takes, and from which two dimensions of uint8 are a grey image.
_CNN_SIDE = 36
# More channels than a picture has, RGB and a mask, are not looked for in the last dimension.
_PICTURE_CHANNELS = 4
# What torch calculates with, for those it does not.
_DTYPES = {"b1": np.uint8, "u2": np.int32, "u4": np.int64, "u8": np.float64, "f16": np.float64}


class _Part(NamedTuple):
    """One array of an observation: the space it is arranged into, and the way there."""

    space: spaces.Space[Any]
    arrange: Callable[[Any], Any]


class ArrangedObservations(gymnasium.ObservationWrapper[Any, Any, Any]):
    """An environment whose observations are arranged for networks, each checked against its space.

    Images get their channels first, in a Dict too; grey ones get a channel. Numbers of Discrete and
    MultiDiscrete count from 0. Scalars, and MultiDiscrete and MultiBinary of several dimensions,
    become vectors; images of floats up to 255 are divided by 255.

    Args:
        env: Its observations are Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these.
        name: What messages call it.

    Raises:
        UnsupportedSpaceError: They are something else, or images of an unknown layout.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self.name = name
        space = env.observation_space
        self._parts: dict[str, _Part] | None = None
        if isinstance(space, spaces.Dict):
            if not space.spaces:
                raise UnsupportedSpaceError(f"{name}: expected observations, found an empty Dict")
            self._parts = {
                key: _part(part, f"{name}: {key}", in_dict=True) for key, part in space.items()
            }
            # A point separates the names of a network's parts.
            self._names = {key: str(key).replace(".", "_") for key in self._parts}
            if len(set(self._names.values())) != len(space.spaces) or not all(self._names.values()):
                raise UnsupportedSpaceError(
                    f"{name}: expected observations with keys that differ, found {list(space)}"
                )
            found = {self._names[key]: part.space for key, part in self._parts.items()}
            self.observation_space = spaces.Dict(found)
        else:
            self.observation_space, self._arrange = _part(space, name)

    def observation(self, observation: Any) -> Any:
        """Arranges an observation.

        Raises:
            ObservationError: It is not of the environment's space.
        """
        if self._parts is None:
            return self._arrange(observation)
        if not isinstance(observation, dict) or observation.keys() != self._parts.keys():
            found = list(observation) if isinstance(observation, dict) else _words(observation)
            raise ObservationError(
                f"{self.name}: expected observations with the keys {list(self._parts)}, "
                f"found {found}"
            )
        return {
            self._names[key]: part.arrange(observation[key]) for key, part in self._parts.items()
        }


def _part(space: spaces.Space[Any], name: str, in_dict: bool = False) -> _Part:
    if isinstance(space, spaces.Discrete):
        return _discrete(space, name)
    if isinstance(space, spaces.MultiDiscrete):
        return _multi_discrete(space, name)
    if isinstance(space, spaces.MultiBinary):
        checked = _checked(space, name)
        return _Part(
            spaces.MultiBinary(int(np.prod(space.shape))), lambda x: checked(x).reshape(-1)
        )
    if isinstance(space, spaces.Box):
        return _box(space, name, in_dict)
    flatten = (
        "Type --wrapper gymnasium.wrappers:FlattenObservation."
        if space.is_np_flattenable
        else "Wrap it in one of your own that gives arrays: --wrapper module:Class."
    )
    raise UnsupportedSpaceError(
        "Observations must be Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these; "
        f"{name} has {str(space)[:200]}. {flatten}"
    )


def _discrete(space: spaces.Discrete, name: str) -> _Part:
    start, last = int(space.start), int(space.start) + int(space.n) - 1

    def arrange(observation: Any) -> int:
        try:
            number = int(observation)
        except (TypeError, ValueError):
            number = None
        if number is None or number != observation or not start <= number <= last:
            raise ObservationError(
                f"{name}: expected observations from {start} to {last}, found {_words(observation)}"
            )
        return number - start

    return _Part(spaces.Discrete(int(space.n)), arrange)


def _multi_discrete(space: spaces.MultiDiscrete, name: str) -> _Part:
    checked = _checked(space, name)
    start = space.start.reshape(-1)

    def arrange(observation: Any) -> Array:
        numbers = checked(observation).reshape(-1) - start
        if not ((numbers >= 0) & (numbers < nvec)).all():
            raise ObservationError(
                f"{name}: expected observations of {space}, found {_words(observation)}"
            )
        return numbers

    nvec = space.nvec.reshape(-1)
    return _Part(spaces.MultiDiscrete(nvec), arrange)


def _box(space: spaces.Box, name: str, in_dict: bool) -> _Part:
    if 0 in space.shape:
        raise UnsupportedSpaceError(
            f"{name}: expected observations of numbers, found none: {space}"
        )
    checked = _checked(space, name)
    to_255 = bool((space.low == 0).all() and (space.high == 255).all())
    steps: list[Callable[[Array], Array]] = []
    shape, dtype = space.shape, np.dtype(space.dtype)
    if shape == ():
        steps.append(lambda x: x.reshape(1))
    elif len(shape) == 2 and min(shape) >= _CNN_SIDE and dtype == np.uint8 and to_255:
        steps.append(lambda x: x[None])
    elif len(shape) == 3 and _has_channels_last(space, name, dtype == np.uint8 and to_255):
        steps.append(lambda x: np.ascontiguousarray(x.transpose(2, 0, 1)))
    code = f"{dtype.kind}{dtype.itemsize}"
    if code in _DTYPES:
        other = _DTYPES[code]
        steps.append(lambda x: x.astype(other))
    is_small = in_dict and len(shape) == 3 and _smallest_side(space, steps) < _CNN_SIDE
    if is_small and dtype == np.uint8 and to_255:  # the networks of Dicts have no smaller CNN
        steps.append(lambda x: x.reshape(-1))
    if len(shape) == 3 and to_255 and (dtype.kind == "f" or (is_small and dtype == np.uint8)):
        steps.append(lambda x: (x / 255).astype(np.float32))
    if not steps:
        return _Part(space, checked)

    def arrange(observation: Any) -> Array:
        return _through(steps, checked(observation))

    low, high = _through(steps, space.low), _through(steps, space.high)
    return _Part(spaces.Box(low, high, dtype=low.dtype.type), arrange)


def _through(steps: list[Callable[[Array], Array]], array: Array) -> Array:
    for step in steps:
        array = step(array)
    return array


def _smallest_side(space: spaces.Box, steps: list[Callable[[Array], Array]]) -> int:
    _, height, width = _through(steps, space.low).shape
    return min(int(height), int(width))


def _has_channels_last(space: spaces.Box, name: str, is_image: bool) -> bool:
    """Returns whether channels come last: Stable-Baselines3's rule for images, a picture's else."""
    shape = space.shape
    if not is_image:
        return shape[2] <= _PICTURE_CHANNELS and shape[2] < min(shape[:2])
    channels = int(np.argmin(shape))
    if channels == 1:
        raise UnsupportedSpaceError(
            f"{name}: expected images of (channels, height, width) or (height, width, channels) "
            f"with fewer channels than pixels a side, found {shape}: wrap the environment in one "
            "that gives these, --wrapper module:Class"
        )
    return channels == 2


def _checked(space: spaces.Space[Any], name: str) -> Callable[[Any], Array]:
    """Makes the function that gives an observation as an array of exactly this shape and dtype."""
    assert space.shape is not None
    shape, dtype = space.shape, np.dtype(space.dtype)

    def check(observation: Any) -> Array:
        is_array = type(observation) is np.ndarray and observation.dtype == dtype
        if is_array and observation.shape == shape:
            return observation  # type: ignore[no-any-return]
        return _as_array(observation, shape, dtype, name)

    return check


def _as_array(observation: Any, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Array:
    """Makes an array of an observation that is one in other words: a list, of another precision."""
    try:
        array = np.asarray(observation)
        fits = array.shape == shape and array.dtype.kind in "biuf"
    except ValueError:
        fits = False
    if fits and not np.can_cast(array.dtype, dtype, "same_kind"):
        # Whole numbers of another size, where these are in range.
        fits = array.dtype.kind in "biu" and dtype.kind in "biu"
        fits = fits and bool((array.astype(dtype) == array).all())
    if not fits:
        raise ObservationError(
            f"{name}: expected observations of shape {shape}, {dtype}, as its space says, found "
            f"{_words(observation)}"
        )
    return array.astype(dtype)


def _words(observation: Any) -> str:
    if isinstance(observation, np.ndarray) and observation.ndim:
        return f"shape {observation.shape}, {observation.dtype}"
    return f"{type(observation).__name__} {str(observation)[:60]!r}"
