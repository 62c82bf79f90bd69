"""Everything an algorithm's further course depends on, its replay and environments aside.

As named tensors and JSON data, to be taken and given back between two blocks: no step is under way
then, and every transition is in the replay. A test leaves out each item in turn and sees training
differ (`tests/algorithms/test_state.py`).
"""

import random
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sndqn.algorithms.base import ValueBasedAlgorithm
from sndqn.errors import ConfigError

_COUNTERS = (
    "num_timesteps",
    "_total_timesteps",
    "_episode_num",
    "_n_calls",
    "_n_updates",
    "exploration_rate",
    "_current_progress_remaining",
    "refilled_at",
)


def get_state(model: ValueBasedAlgorithm) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the state of an algorithm and of the global random number generators.

    Returns:
        Tensors by name, copies on the CPU, and JSON data.
    """
    tensors = {f"policy/{name}": value for name, value in model.policy.state_dict().items()}
    optimizer = model.policy.optimizer.state_dict()
    for index, entries in optimizer["state"].items():
        for name, value in entries.items():
            tensors[f"optimizer/{index}/{name}"] = torch.as_tensor(value)
    tensors |= {f"log/{name}": value for name, value in model._train_logs.items()}
    assert isinstance(model._last_obs, np.ndarray)
    tensors["last_obs"] = torch.from_numpy(np.array(model._last_obs))
    games = list(model.ep_info_buffer or [])
    tensors["games"] = torch.tensor([[g["r"], g["l"]] for g in games], dtype=torch.float64)
    data: dict[str, Any] = {name: getattr(model, name) for name in _COUNTERS}
    data["_compiles_next"] = model.acceleration.due
    data["compiled"] = model.acceleration.updates is not None
    data["log_names"] = list(model._train_logs)
    data["param_groups"] = [
        {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in group.items()
            if key != "params"
        }
        for group in optimizer["param_groups"]
    ]
    random_tensors, data["random"] = _random_state(model)
    tensors |= random_tensors
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}, data


def set_state(
    model: ValueBasedAlgorithm, tensors: Mapping[str, Tensor], data: Mapping[str, Any]
) -> None:
    """Returns an algorithm, made from the same configuration, the state of another.

    Raises:
        ConfigError: The state is not of such an algorithm: a tensor is missing, superfluous or of
            another shape.
    """
    own = model.policy.state_dict()
    given = _under(tensors, "policy/")
    for name in sorted({*own, *given}):
        shapes = [_shape(name, part.get(name)) for part in (own, given)]
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"state of a run: expected {name} of shape {shapes[0]}, found {shapes[1]}: "
                "it is of another network"
            )
    model.policy.load_state_dict(given)
    optimizer = model.policy.optimizer
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _under(tensors, "optimizer/").items():
        index, _, name = key.partition("/")
        like = trained[int(index)]
        # A moment lies in memory as its weight does (channels last): the fused step takes it so.
        own_layout = torch.empty_like(like if like.shape == value.shape else value)
        moments.setdefault(int(index), {})[name] = own_layout.copy_(value)
    groups = [
        {key: tuple(value) if isinstance(value, list) else value for key, value in group.items()}
        | {"params": known["params"]}
        for group, known in zip(
            data["param_groups"], optimizer.state_dict()["param_groups"], strict=True
        )
    ]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    for name in _COUNTERS:
        if name in data:  # else of a version that had no such counter
            setattr(model, name, data[name])
    model._train_logs = {name: tensors[f"log/{name}"].clone() for name in data["log_names"]}
    model._last_obs = tensors["last_obs"].numpy().copy()
    games = [{"r": r, "l": int(length), "t": 0.0} for r, length in tensors["games"].tolist()]
    model.ep_info_buffer = deque(games, maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    model.acceleration.due = data["_compiles_next"]
    if data["compiled"]:  # before the random numbers, of which it draws
        model.prepare_acceleration()
    _set_random_state(model, tensors, data["random"])


def prolong(model: ValueBasedAlgorithm, total_timesteps: int) -> None:
    """Moves the end of a training: what is a share of the training follows."""
    model._total_timesteps = total_timesteps
    model._update_current_progress_remaining(model.num_timesteps, total_timesteps)
    model.exploration_rate = model.exploration_schedule(model._current_progress_remaining)
    if model.acceleration.updates is None:
        left = total_timesteps - model.num_timesteps
        model.acceleration.due = model.will_compile(left + model.learning_starts)


def refill(model: ValueBasedAlgorithm) -> None:
    """Begins other games, which fill the empty replay before the next update."""
    model.begin_anew()
    model.refilled_at = model.num_timesteps + refill_timesteps(model)


def refill_timesteps(model: ValueBasedAlgorithm) -> int:
    """Returns how many steps fill an empty replay as far as the first update wants it."""
    return max(model.learning_starts, model.batch_size)


def _shape(name: str, tensor: Tensor | None) -> tuple[int, ...] | None:
    if tensor is None:
        return None
    # A layer takes any number of singular vectors, which are stacked first.
    stacked = name.endswith((".running_u", ".running_v"))
    return tuple(tensor.shape[1:] if stacked else tensor.shape)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _random_state(model: ValueBasedAlgorithm) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Takes the state of Python's, NumPy's and torch's generators and the action space's."""
    numpy_state: Any = np.random.get_state(legacy=False)
    version, numbers, gauss = random.getstate()
    tensors = {
        "random/torch": torch.get_rng_state(),
        # Words of 32 bits, which not every tensor dtype and file knows unsigned.
        "random/numpy": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
        "random/python": torch.tensor(numbers, dtype=torch.int64),
    }
    if model.device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(model.device)
    actions: Any = model.action_space.np_random.bit_generator.state
    return tensors, {
        "numpy": [numpy_state["state"]["pos"], numpy_state["has_gauss"], numpy_state["gauss"]],
        "python": [version, gauss],
        # Numbers of 128 bits: as words, for readers whose numbers end at 64.
        "actions": {**actions, "state": {k: str(v) for k, v in actions["state"].items()}},
    }


def _set_random_state(
    model: ValueBasedAlgorithm, tensors: Mapping[str, Tensor], data: Mapping[str, Any]
) -> None:
    torch.set_rng_state(tensors["random/torch"])
    if "random/cuda" in tensors and model.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random/cuda"], model.device)
    position, has_gauss, gauss = data["numpy"]
    key = tensors["random/numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, position, has_gauss, gauss))
    version, python_gauss = data["python"]
    random.setstate((version, tuple(tensors["random/python"].tolist()), python_gauss))
    actions = data["actions"]
    state = {name: int(value) for name, value in actions["state"].items()}
    model.action_space.np_random.bit_generator.state = {**actions, "state": state}
