"""Rows of equal arrays on a device: the storage under a replay buffer."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.utils import get_device
from torch import Tensor

from sndqn.errors import UnsupportedSpaceError

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """Returns torch's name of a NumPy dtype.

    Raises:
        UnsupportedSpaceError: Torch has no such dtype.
    """
    try:
        return torch.from_numpy(np.empty(0, dtype)).dtype
    except TypeError:
        raise UnsupportedSpaceError(
            f"Observations must be of a dtype that torch has, such as float32; found {dtype}."
        ) from None


# Torch's unsigned integers cannot be written by index; the signed ones of their size can.
BITS = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def replace_rows(tensor: Tensor, rows: Tensor, values: Tensor) -> None:
    """Writes over some rows of a tensor, numbered by another one on its device."""
    bits = BITS.get(tensor.dtype, tensor.dtype)
    tensor.view(bits).index_copy_(0, rows, values.view(bits))


class Rows:
    """Equal arrays on a device, read and written by number.

    On the CPU, memory pages that were never written cost nothing.

    Args:
        n_rows: Number of rows, undefined until written.
        shape: Shape of a row.
        dtype: NumPy dtype of the rows.
        device: Where they are.
    """

    def __init__(
        self, n_rows: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: torch.device
    ) -> None:
        self.shape = shape
        size = math.prod(shape)
        self._assign(torch.empty((n_rows, size), dtype=torch_dtype(dtype), device=device))

    _array: Array | None

    def _assign(self, tensor: Tensor) -> None:
        # NumPy's view of it: on small batches its overhead is a fraction of torch's.
        array = tensor.numpy() if tensor.device.type == "cpu" else None
        # In one line: an interruption must not part them.
        self.tensor, self._array = tensor, array

    def __len__(self) -> int:
        return len(self.tensor)

    def write(self, rows: slice | Indices, values: Array) -> None:
        """Writes rows; `values` has shape (rows, *shape) and the rows' dtype."""
        if not len(values):
            return
        values = values.reshape(len(values), -1)
        if self._array is not None:
            self._array[rows] = values
        elif isinstance(rows, slice):
            self.tensor[rows].copy_(torch.from_numpy(values))
        else:
            device = self.tensor.device
            numbers, source = torch.from_numpy(rows), torch.from_numpy(values)
            replace_rows(self.tensor, numbers.to(device), source.to(device))

    def read(self, rows: Indices) -> Tensor:
        """Returns new copies of rows, of shape (*rows.shape, *shape), on the device."""
        if self._array is not None:
            taken = torch.from_numpy(self._array.take(rows.reshape(-1), axis=0))
        else:
            numbers = torch.from_numpy(rows.reshape(-1)).to(self.tensor.device)
            taken = self.tensor.index_select(0, numbers)
        return taken.view(*rows.shape, *self.shape)

    @property
    def row_nbytes(self) -> int:
        """Bytes of a row."""
        return self.tensor.shape[1] * self.tensor.element_size()

    def read_bytes(self, rows: Indices) -> Bytes:
        """Returns the bytes of rows, copied to the CPU, of shape (rows, row_nbytes)."""
        flat: Array = self.read(rows).cpu().numpy().reshape(len(rows), self.tensor.shape[1])
        return flat.view(np.uint8)

    def write_bytes(self, rows: Indices, values: Bytes) -> None:
        """Writes rows, numbered by `rows`, from bytes as `read_bytes` gives them."""
        # A copy: torch warns of memory that may not be written to, such as a file's contents.
        self.write(rows, np.array(values).view(self.export(0).dtype))

    def resize(self, n_rows: int) -> None:
        """Changes the number of rows; those that stay keep their contents."""
        kept = min(n_rows, len(self))
        tensor = self.tensor.new_empty((n_rows, self.tensor.shape[1]))
        tensor[:kept] = self.tensor[:kept]
        self._assign(tensor)

    def to(self, device: torch.device) -> None:
        """Moves the rows to a device."""
        self._assign(self.tensor.to(device))

    def export(self, n_rows: int) -> Array:
        """Returns the first rows as a flat array each, on the CPU in the same memory."""
        array: Array = self.tensor[:n_rows].cpu().numpy()
        return array

    def __getstate__(self) -> dict[str, Any]:
        # As an array: torch would copy a tensor on its way into a pickle.
        state = {"array": self.export(len(self)), "device": self.tensor.device}
        return {"shape": self.shape, **state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.shape = state["shape"]
        # `get_device` falls back on the CPU where the GPU of another machine is missing.
        self._assign(torch.from_numpy(state["array"]).to(get_device(state["device"])))


class RecycledRows:
    """A few rows that come and go: as many as are kept at one time, rounded up to a power of two.

    Args:
        shape: Shape of a row.
        dtype: NumPy dtype of the rows.
        device: Where they are.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], device: torch.device) -> None:
        self.rows = Rows(0, shape, dtype, device)
        self.clear()

    @property
    def n_kept(self) -> int:
        """Number of rows in use."""
        return len(self.rows) - len(self._free)

    def clear(self) -> None:
        """Lets all rows be used again."""
        self._free = list(range(len(self.rows)))

    def keep(self, values: Array) -> Indices:
        """Stores rows, of shape (n, *shape); returns the numbers to read and release them by."""
        while len(self._free) < len(values):
            old = len(self.rows)
            self.rows.resize(max(2 * old, 1))
            self._free.extend(range(old, len(self.rows)))
        numbers = np.array([self._free.pop() for _ in values], np.int64)
        self.rows.write(numbers, values)
        return numbers

    @property
    def free(self) -> Indices:
        """Numbers of the rows not in use, the next to be used last."""
        return np.array(self._free, np.int64)

    def restore(self, numbers: Indices, values: Bytes, free: Indices) -> None:
        """Makes the rows in use these, from their bytes, and all others `free`, in that order."""
        self.rows.resize(len(numbers) + len(free))
        self.rows.write_bytes(numbers, values)
        self._free = free.tolist()

    def release(self, numbers: npt.NDArray[np.integer[Any]]) -> None:
        """Lets rows be used again."""
        self._free.extend(numbers.tolist())
