"""Reads the weights in an SB3 zip's policy.pth: a program of its own, which may use little.

The bytes come on standard input, and the tensors leave as safetensors on standard output. Run by
`sndqn.agents.sb3_import`; it imports nothing of sndqn, and what goes wrong in it ends it alone.
"""

import io
import resource
import sys

import torch
from safetensors.torch import save

MEMORY_BYTES = 4 * 1024**3  # of address space, on top of what torch itself takes
SECONDS = 60
ONLINE = ("q_net.", "quantile_net.")  # SB3's name and sb3-contrib's of the network that acts


def limit() -> None:
    """Takes from this process what it does not need: memory, time, and files to write."""
    pages = int(open("/proc/self/statm").read().split()[0]) if sys.platform == "linux" else 0  # noqa: SIM115
    memory = pages * resource.getpagesize() + MEMORY_BYTES
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def convert(content: bytes) -> bytes:
    """Reads a policy.pth and writes the tensors of its Q-network.

    Raises:
        ValueError: It holds something else.
    """
    state = torch.load(io.BytesIO(content), "cpu", weights_only=True)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
        raise ValueError("something else than tensors by name")
    online = {name: t for name, t in state.items() if name.startswith(ONLINE)}
    if not online or any(t.dtype != torch.float32 or t.is_sparse for t in online.values()):
        raise ValueError("no Q-network of 32-bit floats")
    return save(
        {name: t.clone(memory_format=torch.contiguous_format) for name, t in online.items()}
    )


def main() -> int:
    """Reads, converts, writes; gives the exit status."""
    limit()
    try:
        tensors = convert(sys.stdin.buffer.read())
    except Exception as error:  # a stranger's bytes: anything can come, and nothing else is tried
        print(" ".join(str(error).split("\n")[0].split())[:200], file=sys.stderr)
        return 1
    sys.stdout.buffer.write(tensors)
    return 0


if __name__ == "__main__":
    sys.exit(main())
