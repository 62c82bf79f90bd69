"""Where a compiled function keeps the new values of what it changes."""

from typing import Any

import torch
from torch import fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files


class StoreOnce(CustomGraphPass):
    """Has the new value of a changed input read where it is stored.

    Made functional, a graph stores each input's new value at its very end, and whoever needs the
    value before that, but in the loop that makes it, reads a copy of its own. For a weight of 6 MB,
    which the power iteration reads after the optimiser's step, to write that copy is a sixth of the
    step.

    A pass over the operations as TorchInductor is about to write them in C++: none takes another's
    place after it.
    """

    def __call__(self, graph: fx.Graph) -> None:
        """Moves each storing operation to where the value is made, unless the old one is needed."""
        order = {node: i for i, node in enumerate(graph.nodes)}
        for store in list(graph.nodes):
            if store.target is not torch.ops.aten.copy_.default:
                continue
            changed, value = store.args
            users = [user for user in value.users if user is not store]
            if all(torch.Tag.pointwise in user.target.tags for user in users):
                continue  # these join the loop that makes the value, and read no memory
            readers = _readers(changed) - {store}
            if any(order[reader] > order[value] for reader in readers):
                continue
            value.append(store)
            for user in users:
                user.replace_input_with(value, store)

    def uuid(self) -> Any:
        """Names this version of the pass to torch's cache."""
        return get_hash_for_files((__file__,))


def _readers(node: fx.Node) -> set[fx.Node]:
    """Gives the operations that read a tensor's memory, by itself or through its views."""
    readers: set[fx.Node] = set()
    left = [node]
    while left:
        for user in left.pop().users:
            if user not in readers:
                readers.add(user)
                if _memory(user) == _memory(node):
                    left.append(user)
    return readers


def _memory(node: fx.Node) -> int | None:
    value = node.meta.get("val")
    return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else None
