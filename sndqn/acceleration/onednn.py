"""Large products by oneDNN in compiled functions, in place of torch's oneMKL.

Torch multiplies matrices of float32 with oneMKL, which uses AVX2 on AMD's cores. oneDNN, which
torch has for its convolutions, uses AVX-512 where the core has it, and is then about twice as fast.
On Intel's cores oneMKL uses it too: a gradient of 512 x 3136 from a batch of 32 took oneMKL 0.7 ms
and oneDNN 2.3. There, and without AVX-512, oneDNN is not used.
"""

from pathlib import Path
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


def _is_intels() -> bool:
    cores = Path("/proc/cpuinfo")
    return cores.is_file() and "GenuineIntel" in cores.read_text()


_IS_FASTER = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and not _is_intels()


def takes(*tensors: Tensor) -> bool:
    """Returns whether oneDNN is faster for such tensors: float32, by AVX-512, and not Intel's."""
    suits = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    return _IS_FASTER and suits and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def register() -> None:
    """Tells TorchInductor how to call `linear` from C++; the imports take a second.

    Torch's own lowering is for weights that never change, and copies those in the other order of
    memory; oneDNN reads either order.
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
