"""Shapes of a network's tensors without computing them, for networks that are only planned."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# By name, as each has several: torch.add, Tensor.add, Tensor.__add__ ...
_POINTWISE = {
    *("relu", "elu", "gelu", "silu", "tanh", "cos", "softmax"),
    *("add", "sub", "mul", "div", "__radd__", "__rsub__", "__rmul__", "__rdiv__"),
}
# What keeps the shape of its first argument.
_NORMALISATIONS = ("layer_norm", "group_norm", "batch_norm")


class ShapesAlone(TorchFunctionMode):
    """Answers the functions of usual layers with room for what they would compute.

    It is for tensors of the device `meta`. Torch computes shapes with those by itself, but first
    imports its compiler and sympy, which takes seconds.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Returns an empty tensor of the result's shape; calls torch for functions not known."""
        tensors = [value for value in args if isinstance(value, Tensor)]
        if func is F.linear:
            inputs, weight = args[:2]
            return inputs.new_empty(*inputs.shape[:-1], weight.shape[0])
        if func is F.conv2d and len(args) == 7 and isinstance(args[4], tuple):
            size = _convolved(args[0].shape, args[1].shape, *args[3:6])
            if min(size) > 0:
                return args[0].new_empty(*args[0].shape[:-3], args[1].shape[0], *size)
        if getattr(func, "__name__", "") in _POINTWISE and tensors:
            return tensors[0].new_empty(
                np.broadcast_shapes(*(tensor.shape for tensor in tensors)), dtype=torch.float32
            )
        if getattr(func, "__name__", "") in _NORMALISATIONS:
            return torch.empty_like(tensors[0])
        if func in (torch.arange, torch.linspace):  # as heads call them
            return torch.empty(int(args[-1]), dtype=torch.float32)
        if func is Tensor.mean and kwargs == {"dim": -2, "keepdim": True}:
            return args[0].new_empty(*args[0].shape[:-2], 1, args[0].shape[-1])
        return func(*args, **(kwargs or {}))


def _convolved(
    image: torch.Size,
    kernel: torch.Size,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> list[int]:
    """Returns height and width of a convolution's output."""
    return [
        (image[i - 2] + 2 * padding[i] - dilation[i] * (kernel[i - 2] - 1) - 1) // stride[i] + 1
        for i in range(2)
    ]
