"""Under what a layer runs: torch's transforms of functions, autocast, half precision."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.fx.experimental.proxy_tensor import get_proxy_mode


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype that σ is computed in: half precision is too coarse for it."""
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32


def transformed() -> bool:
    """Returns whether torch.func transforms the code, so that buffers cannot be written."""
    return not torch.compiler.is_compiling() and (
        torch._C._functorch.peek_interpreter_stack() is not None
    )


def only_recorded() -> bool:
    """Returns whether torch only records operations, so that no number can be looked at."""
    return torch.compiler.is_compiling() or get_proxy_mode() is not None


def autocasts(device: torch.device) -> bool:
    """Returns whether autocast chooses the dtypes of operations on a device."""
    available = torch.amp.is_autocast_available(device.type)  # not on the meta device
    return available and torch.is_autocast_enabled(device.type)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Runs a block in the dtypes that its tensors have."""
    return torch.autocast(device.type, enabled=False) if autocasts(device) else nullcontext()
