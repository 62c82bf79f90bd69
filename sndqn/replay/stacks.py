"""Stacked observations whose frames are kept once each, in a ring."""

from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.utils import get_device
from torch import Tensor

from sndqn.errors import ConfigError, UnsupportedSpaceError
from sndqn.replay.rows import Array, Flags, Indices, Rows


def equal_rows(first: Array, second: Array) -> Flags:
    """Returns for each row whether two arrays of one shape agree there to the bit; NaN is NaN."""
    same = first.view(np.uint8) == second.view(np.uint8)
    flags: Flags = same.reshape(len(same), -1).all(axis=1)
    return flags


def are_equal(first: Array, second: Array) -> bool:
    """Returns whether two arrays of one shape agree to the bit; much faster than by rows."""
    return first.tobytes() == second.tobytes()


class Lost(NamedTuple):
    """Next observations that were followed by something else.

    Attributes:
        envs: Environments, shape (n,).
        observations: Shape (n, *shape).
    """

    envs: Indices
    observations: Array


class Extent(NamedTuple):
    """Slots of a ring, numbered on however often it comes around: slot s is at s % n_slots.

    Attributes:
        oldest: The first slot that can be read.
        settled: The first slot that the next observation may still change.
        end: The first slot that was not written yet.
    """

    oldest: int
    settled: int
    end: int


class FrameStacks:
    """The last observations of environments that move in lockstep, each frame stored once.

    An observation stacks `frame_stack` frames along its first dimension, oldest first. It is
    either the previous one moved by a frame or the start of a game: one frame, before it zeros or
    copies of it. Which of the two is learnt from the first start that tells, in `padding`.

    The newest `length` observations of each environment can be read, and what followed them. An
    observation's place, to read it by, is what `push` gave plus the environment's number.

    Args:
        length: How many observations per environment can be read.
        n_envs: Number of environments.
        frame_stack: Frames per observation; 1 takes observations as they are.
        shape: Shape of an observation.
        dtype: NumPy dtype of the observations.
        device: Where the frames are.

    Attributes:
        dtype: NumPy dtype of the observations.
        count: How many observations of each environment came since the last `clear`.
        first: The slot that they begin at; a slot has one frame of every environment.

    Raises:
        UnsupportedSpaceError: Observations of this shape are no stacks of so many frames.
    """

    def __init__(
        self,
        length: int,
        n_envs: int,
        frame_stack: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        device: torch.device,
    ) -> None:
        if frame_stack > 1 and (not shape or shape[0] % frame_stack):
            raise UnsupportedSpaceError(
                f"frame_stack={frame_stack} needs observations that stack {frame_stack} frames "
                f"along their first dimension; found shape {shape}. Use frame_stack=1 otherwise."
            )
        self.n_envs, self.frame_stack, self.shape = n_envs, frame_stack, shape
        self.dtype = dtype
        # Channels per frame; without stacking nothing ever cuts an observation.
        self._channels = shape[0] // frame_stack if frame_stack > 1 else 0
        self._frame_shape = (self._channels, *shape[1:]) if frame_stack > 1 else shape
        # With the oldest stack's older frames, and the frame after the newest observation.
        self.n_slots = length + frame_stack
        self._n_rows = self.n_slots * n_envs
        self.frames = self._new_frames(dtype, device)
        # How many of a stack's frames belong to its game; by slot, as the frames.
        self._depth = np.zeros((self.n_slots, n_envs), np.uint8)
        # Ages of the frames read for an observation and what followed it, whose newest has -1.
        self._ages = np.arange(frame_stack - 1, -2, -1)
        self.first = self.count = 0
        self.clear()

    def _new_frames(self, dtype: np.dtype[Any], device: torch.device) -> Rows:
        """Allocates a row per slot and environment, and one for the zeros before a first frame."""
        frames = Rows(self._n_rows + 1, self._frame_shape, dtype, device)
        frames.write(slice(self._n_rows, None), np.zeros((1, *self._frame_shape), dtype))
        return frames

    def clear(self) -> None:
        """Forgets all observations and the padding; slots are numbered on."""
        self.first, self.count = self.extent(self.first, self.count).end, 0
        self.padding: str | None = None
        self._expected = b""
        self._follows: Flags | None = None

    @property
    def nbytes(self) -> int:
        """Bytes taken by everything that is stored per step."""
        return self.frames.tensor.nbytes + self._depth.nbytes

    def extent(self, first: int, count: int) -> Extent:
        """Returns the slots in use once `count` observations were written from slot `first` on."""
        if not count:
            return Extent(first, first, first)
        end = first + count + self.frame_stack
        return Extent(max(first, end - self.n_slots), end - 1, end)

    def _older(self, stacks: Array) -> Array:
        return stacks[:, : -self._channels]

    def _newer(self, stacks: Array) -> Array:
        return stacks[:, self._channels :]

    def _newest(self, stacks: Array) -> Array:
        return stacks[:, -self._channels :] if self._channels else stacks

    @property
    def _slot(self) -> int:
        """Slot of the next observation; before the first there is room for its older frames."""
        return (self.first + self.count + self.frame_stack - 1) % self.n_slots

    def _write(self, slot: int, frames: Array) -> None:
        self.frames.write(slice(slot * self.n_envs, (slot + 1) * self.n_envs), frames)

    @property
    def mark(self) -> tuple[int, str | None, bytes, Flags | None]:
        """What `push` moves on; given back, an interrupted call can be made again."""
        return self.count, self.padding, self._expected, self._follows

    @mark.setter
    def mark(self, mark: tuple[int, str | None, bytes, Flags | None]) -> None:
        self.count, self.padding, self._expected, self._follows = mark

    def expected(self) -> Array:
        """Returns what followed the newest observations, shape (n_envs, *shape)."""
        flat = np.frombuffer(self._expected, self.dtype)
        return flat.reshape(self.n_envs, *self.shape)

    def push(
        self, observations: Array, next_observations: Array, ended: Flags
    ) -> tuple[int, Lost | None]:
        """Appends an observation of every environment and what followed it.

        Args:
            observations: Shape (n_envs, *shape).
            next_observations: What the step led to, at a game's end its last observation.
            ended: Whether the step ended an episode. What follows then need not fit.

        Returns:
            The place of the first environment's observation, and those of the previous call's next
            observations that this call's observations differ from: they cannot be read any more.

        Raises:
            ConfigError: An observation is neither the one before it moved by a frame nor a start.
        """
        follows = self._check_next(observations, next_observations, ended)
        slot = self._slot
        lost = self._append(slot, observations)
        self._write((slot + 1) % self.n_slots, self._newest(next_observations))
        self.count += 1
        self._expected = next_observations.tobytes()
        self._follows = follows
        return slot * self.n_envs, lost

    def _check_next(self, observations: Array, after: Array, ended: Flags) -> Flags | None:
        """Returns where the next observation is this one moved by a frame; None: everywhere."""
        if self.frame_stack == 1 or are_equal(self._older(after), self._newer(observations)):
            return None
        follows = equal_rows(self._older(after), self._newer(observations))
        broken = ~(follows | ended)
        if broken.any():
            raise self._no_stack(int(broken.argmax()), "the observation after it")
        return follows

    def _append(self, slot: int, observations: Array) -> Lost | None:
        """Stores the observations proper; see `push` for what it gives."""
        if self.count == 0:
            self._write_whole(observations)
            return None
        if self._follows is None and observations.tobytes() == self._expected:
            # The usual case: the newest frames are there already.
            if self.frame_stack > 1:
                self._depth[slot] = np.minimum(self._depth[slot - 1], self.frame_stack - 1) + 1
            return None
        expected = self.expected()
        same = equal_rows(observations, expected)
        if self.frame_stack > 1:
            continues = same if self._follows is None else same & self._follows
            if not continues.all():
                continues = continues | self._continues(slot, observations)
                self._check_starts(observations, ~continues)
            longer = np.minimum(self._depth[slot - 1], self.frame_stack - 1) + 1
            self._depth[slot] = np.where(continues, longer, 1)
        self._write(slot, self._newest(observations))
        return None if same.all() else Lost(np.flatnonzero(~same), expected[~same])

    def _write_whole(self, observations: Array) -> None:
        """Stores the first observations with all their frames: they may come from within a game."""
        frames = observations.reshape(self.n_envs, self.frame_stack, *self._frame_shape)
        for age in range(self.frame_stack):
            self._write((self._slot - age) % self.n_slots, frames[:, -1 - age])
        self._depth[self._slot] = self.frame_stack

    def _continues(self, slot: int, observations: Array) -> Flags:
        """Returns which observations are the previous ones moved by a frame."""
        places = (slot - 1) % self.n_slots * self.n_envs + np.arange(self.n_envs)
        previous = self.read(places).cpu().numpy()
        return equal_rows(self._older(observations), self._newer(previous))

    def _check_starts(self, observations: Array, starts: Flags) -> None:
        """Checks that observations begin games, and learns the padding from them."""
        for index in np.flatnonzero(starts).tolist():
            older = self._older(observations[index : index + 1])
            newest = self._newest(observations[index : index + 1])
            repeats = np.concatenate([newest] * (self.frame_stack - 1), axis=1)
            fits = {
                "zeros": bool(equal_rows(older, np.zeros_like(older)).all()),
                "repeat": bool(equal_rows(older, repeats).all()),
            }
            if not any(fits.values()) or (self.padding and not fits[self.padding]):
                raise self._no_stack(index, "the one before it")
            if not all(fits.values()):
                self.padding = "zeros" if fits["zeros"] else "repeat"

    def _no_stack(self, index: int, other: str) -> ConfigError:
        padding = {"zeros": "zeros", "repeat": "copies of it"}.get(
            self.padding or "", "zeros or copies of it"
        )
        return ConfigError(
            f"frame_stack={self.frame_stack} needs observations that stack frames along their "
            f"first dimension, oldest first: each is the last one moved by a frame, or a game's "
            f"first frame after {padding}. In environment {index} step {self.count} is neither: "
            f"it does not fit {other}. Use frame_stack=1 for such observations."
        )

    def read(self, places: Indices) -> Tensor:
        """Returns new copies of the observations at some places, of shape (batch, *shape)."""
        if self.frame_stack == 1:
            return self.frames.read(places)
        return self._read_stacks(places, self._ages[:-1])

    def read_next(self, places: Indices) -> Tensor:
        """Returns what followed the observations; after a game's end, anything in range."""
        if self.frame_stack == 1:
            return self.frames.read((places + self.n_envs) % self._n_rows)
        return self._read_stacks(places, self._ages[1:])

    def read_both(self, places: Indices) -> tuple[Tensor, Tensor]:
        """Returns observations and what followed them; stacks share the memory of their frames."""
        if self.frame_stack == 1:
            return self.read(places), self.read_next(places)
        frames = self._read_stacks(places, self._ages)
        return frames[:, : -self._channels], frames[:, self._channels :]

    def _read_stacks(self, places: Indices, ages: Indices) -> Tensor:
        """Returns the frames of some ages, counted back from each observation's newest."""
        rows = (places[:, None] - ages * self.n_envs) % self._n_rows
        depth = self._depth.take(places)
        if depth.min() < self.frame_stack:
            rows = self._without_other_games(rows, places, ages, depth[:, None])
        return self.frames.read(rows).flatten(1, 2)

    def _without_other_games(
        self, rows: Indices, places: Indices, ages: Indices, depth: Array
    ) -> Indices:
        """Points what is older than a game's first frame to its padding."""
        if self.padding == "repeat":
            ages = np.minimum(ages, depth.astype(np.int64) - 1)
            return (places[:, None] - ages * self.n_envs) % self._n_rows
        return np.where(ages < depth, rows, self._n_rows)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what to pickle: of the frames, only those written so far."""
        n_slots = min(self.extent(self.first, self.count).end, self.n_slots)
        written = self.frames.export(n_slots * self.n_envs)
        return self.__dict__ | {"frames": (written, self.frames.tensor.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        written, device = state["frames"]
        self.dtype = written.dtype
        self.frames = self._new_frames(written.dtype, get_device(device))
        self.frames.write(slice(0, len(written)), written)
