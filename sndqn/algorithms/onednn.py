"""Large products by oneDNN in compiled functions, in place of torch's oneMKL.

Torch multiplies matrices of float32 by oneMKL, which computes on AMD's cores by AVX2, at 220
GFLOP/s on two of Zen 5; oneDNN, which torch has for its convolutions, by AVX-512, at 490. The four
products of 32 samples and 512 x 3136 in an update, two of values and the gradients of input and
weight, take 1.3 ms instead of 2.6, and the two of a power iteration's 8 vectors 0.30 instead of
0.36. Where oneDNN is held to AVX2, updates take 0.93 to 0.98 of the time, MinAtar's about as long.
"""

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("sndqn::linear", mutates_args=())
def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Computes x Wᵀ; shapes (batch, in) and (out, in), the weight in any order of memory."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return result


@linear.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(len(x), len(weight))


def takes(*tensors: Tensor) -> bool:
    """Says whether oneDNN is there and multiplies such tensors; on other than x86 cores unknown."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    suits = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    return suits and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def register() -> None:
    """Tells TorchInductor how to call it from C++; importing what that takes lasts a second.

    Torch's own way takes weights that never change, and copies those that lie otherwise than it
    expects; oneDNN reads either order.
    """
    from torch._inductor import ir, lowering, mkldnn_ir

    @lowering.register_lowering(torch.ops.sndqn.linear.default, type_promotion_kind=None)
    def _lower(x: Any, weight: Any) -> Any:
        x = ir.ExternKernel.require_contiguous(ir.ExternKernel.realize_input(x))
        weight = ir.ExternKernel.realize_input(weight)
        size = [x.get_size()[0], weight.get_size()[0]]
        layout = ir.FixedLayout(x.get_device(), x.get_dtype(), size)
        arguments = [None, "none", [-1], ""]
        packed = mkldnn_ir.LinearUnary(layout, [x, weight], arguments)
        output = mkldnn_ir._create_output_node(packed)  # type: ignore[no-untyped-call]
        return ir.TensorBox.create(output)
