"""What a network is, read off the names and shapes of its weights."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from gymnasium import spaces
from torch import Tensor, nn

from sndqn.agents.agents import Spaces, plan, shapes_of
from sndqn.agents.told import Told
from sndqn.errors import AgentFileError, SelectionError
from sndqn.networks import NetworkSpec, SpectralSettings
from sndqn.networks.extractors import default_torso
from sndqn.networks.normalization import NormalizationName
from sndqn.networks.spec import SpectralMode
from sndqn.spectral import select_layers, weight_layers
from sndqn.spectral.spectral_layer import Bound

_NOTHING = Told()
_SPECTRAL = ("running_u", "running_v", "running_sigma", "bound")
# Where the layers of each head stand, and of its value stream if it has two.
_HEADS = {
    r"q_net\.(\d+)": ("linear", False),
    r"q_net\.streams\.value\.(\d+)": ("linear", True),
    r"q_net\.logits\.layers\.(\d+)": ("categorical", False),
    r"q_net\.logits\.streams\.value\.(\d+)": ("categorical", True),
    r"q_net\.quantiles\.layers\.(\d+)": ("quantile", False),
    r"q_net\.quantiles\.streams\.value\.(\d+)": ("quantile", True),
}


def network_of(
    tensors: Mapping[str, Tensor], where: Spaces, told: Told, known: Told = _NOTHING
) -> NetworkSpec:
    """Finds the network that has these tensors, for these spaces.

    Args:
        tensors: By the names that they have in `QNetwork`.
        where: Space of the observations and of the actions.
        told: What the user says of it.
        known: What else is known of it, which counts where `told` says nothing.

    Raises:
        AgentFileError: None that sndqn makes has them, or it needs something told.
    """
    plain = {n: t for n, t in tensors.items() if n.rpartition(".")[2] not in _SPECTRAL}
    head, dueling, layers = _head(plain)
    torso, torso_kwargs = _torso(plain, where[0], layers[0])
    _refuse_superfluous(head, told)
    normalised = any(name.endswith(".bound") for name in tensors)
    told = _complete(told.completed(known), head, len(layers) > 1, normalised)
    spec = NetworkSpec(
        torso,
        torso_kwargs=torso_kwargs,
        head=head,
        head_kwargs=_head_kwargs(head, dueling, plain, layers[-1], where[1], told),
        dueling=dueling,
        noisy=f"{layers[-1]}.weight_sigma" in plain,
        net_arch=tuple(len(plain[f"{layer}.bias"]) for layer in layers[:-1]),
        activation=told.activation or "relu",
        normalization=_normalization(plain),
        spectral=SpectralSettings("none"),
    )
    planned = plan(spec, where)
    found = {name: tuple(tensor.shape) for name, tensor in plain.items()}
    for name, shape in shapes_of(planned).items():
        if found.pop(name, None) != shape:
            raise _another(name)
    if found:
        raise _another(next(iter(found)))
    return replace(spec, spectral=_spectral(tensors, planned, told))


# What a training has that was told none; they are asked for all the same, since one may have been.
_USUAL = {
    "activation": "relu",
    "sn_mode": "normalize",
    "v_min": -10,
    "v_max": 10,
    "n_acting_quantiles": 32,
}


def _refuse_superfluous(head: str, told: Told) -> None:
    """Refuses what the user says of a network other than this one."""
    owners = {
        "v_min": ("categorical", "C51"),
        "v_max": ("categorical", "C51"),
        "n_acting_quantiles": ("implicit_quantile", "IQN"),
    }
    for name, (owner, title) in owners.items():
        if name in told.said and head != owner:
            raise AgentFileError(
                f"--{name.replace('_', '-')}: expected {title}'s network, found another: leave it "
                "out"
            )


def _complete(told: Told, head: str, hidden: bool, normalised: bool) -> Told:
    """Asks in one line for what this network needs and was not told."""
    needed = {
        "activation": hidden,
        "sn_mode": normalised,
        "v_min": head == "categorical",
        "v_max": head == "categorical",
        "n_acting_quantiles": head == "implicit_quantile",
    }
    missing = [name for name in needed if needed[name] and name not in told.said]
    if missing:
        options = " ".join(f"--{name.replace('_', '-')} {_USUAL[name]}" for name in missing)
        raise AgentFileError(
            f"the weights do not tell, and nothing beside them does: type {options}, if its "
            "training was told nothing else"
        )
    return told


def _another(name: str) -> AgentFileError:
    return AgentFileError(
        "expected the network of SB3's MlpPolicy or CnnPolicy, or of sndqn's policies, for this "
        f"environment, found another ({name[:60]})"
    )


def _head(plain: Mapping[str, Tensor]) -> tuple[str, bool, list[str]]:
    """Returns the head's name, whether it has two streams, and (the value's) layers in order."""
    head, dueling, layers = "", False, list[str]()
    for pattern, (head, dueling) in _HEADS.items():  # noqa: B007 (those of the pattern that fits)
        numbers = [re.fullmatch(rf"{pattern}\.weight", name) for name in plain]
        order = sorted({int(match[1]) for match in numbers if match is not None})
        layers = [pattern.replace("\\", "").replace("(d+)", str(number)) for number in order]
        if layers:
            break
    if not layers:
        raise _another(next(iter(plain), "empty"))
    for layer in layers:
        if f"{layer}.bias" not in plain:
            raise _another(f"{layer}.bias")
    if head == "quantile" and "q_net.embedding.weight" in plain:
        head = "implicit_quantile"
    return head, dueling, layers


def _torso(
    plain: Mapping[str, Tensor], space: spaces.Space[Any], first: str
) -> tuple[str, dict[str, Any]]:
    """Returns the torso's name and arguments."""
    own = {
        name.removeprefix("features_extractor."): tensor
        for name, tensor in plain.items()
        if name.startswith("features_extractor.") and name.endswith(".weight")
    }
    if isinstance(space, spaces.Dict):
        return default_torso(space), {}
    units = {"features_dim": len(own["linear.0.weight"]) if "linear.0.weight" in own else 0}
    numbers = [re.fullmatch(r"cnn\.(\d+)\.weight", name) for name in own]
    order = sorted(int(match[1]) for match in numbers if match is not None)
    convolutions = [own[f"cnn.{number}.weight"] for number in order]
    if "stages.0.entry.weight" in own:
        width = max(len(own["stages.0.entry.weight"]) // 16, 1)
        flat = own.get("linear.0.weight", plain[f"{first}.weight"]).shape[-1]
        side = math.isqrt(flat // (32 * width))
        whole = [math.ceil(size / 8) for size in (space.shape or ())[1:]]
        pool = None if whole == [side, side] else side
        return "impala_cnn", {**units, "width": width, "pool": pool}
    if convolutions and convolutions[0].shape[-1] == 3:
        return "minatar_cnn", {**units, "channels": [len(kernel) for kernel in convolutions]}
    if convolutions:
        return "der_cnn" if convolutions[0].shape[-1] == 5 else "nature_cnn", units
    hidden = own.get("layers.1.weight")
    return "mlp", {} if hidden is None else {"features_dim": len(hidden)}


def _normalization(plain: Mapping[str, Tensor]) -> NormalizationName:
    """Tells by its factors, the only weights of one dimension, and by batch statistics."""
    if any(name.endswith(".running_var") for name in plain):
        return "batch"
    factors = [n for n, tensor in plain.items() if n.endswith(".weight") and tensor.ndim == 1]
    return "layer" if factors else "none"


def _head_kwargs(
    head: str,
    dueling: bool,
    plain: Mapping[str, Tensor],
    last: str,
    actions: spaces.Space[Any],
    told: Told,
) -> dict[str, Any]:
    """Returns the head's own arguments."""
    if not isinstance(actions, spaces.Discrete):
        raise AgentFileError(f"expected an environment with Discrete actions, found {actions}")
    n_outputs = len(plain[f"{last}.bias"])
    each = n_outputs if dueling else n_outputs // int(actions.n)
    if head == "categorical":
        return {"n_atoms": each, "v_min": told.v_min, "v_max": told.v_max}
    if head == "quantile":
        return {"n_quantiles": each}
    if head == "implicit_quantile":
        n_cosines = plain["q_net.embedding.weight"].shape[-1]
        return {"n_cosines": n_cosines, "n_acting_quantiles": told.n_acting_quantiles}
    return {}


def _spectral(tensors: Mapping[str, Tensor], planned: nn.Module, told: Told) -> SpectralSettings:
    """Finds what is normalised: the layers that have a bound, and how by the shape of vectors."""
    names = [name.removesuffix(".bound") for name in tensors if name.endswith(".bound")]
    if not names:
        return SpectralSettings("none")
    bounds = {
        float(tensors[f"{name}.bound"]) for name in names if tensors[f"{name}.bound"].ndim == 0
    }
    bound: Bound = _written(bounds.pop()) if len(bounds) == 1 else "initial"
    kernels = [
        name
        for name in names
        if f"{name}.weight" in tensors
        and tensors[f"{name}.weight"].ndim == 4
        and f"{name}.running_v" in tensors
        and tensors[f"{name}.running_v"].ndim == 2
    ]
    return SpectralSettings(
        _selection(planned, set(names)),
        bound=bound,
        mode=cast("SpectralMode", told.sn_mode or "normalize"),
        conv_norm="kernel" if kernels else "operator",
    )


def _written(bound: float) -> float:
    """Returns the short decimal number that float32 rounds to this one, if there is one."""
    short = float(f"{bound:.7g}")
    return short if float(torch.tensor(short)) == bound else bound


def _selection(planned: nn.Module, names: set[str]) -> str:
    """Writes a selection of layers, as short as can be."""
    found = {str(entry.index) for entry in weight_layers(planned) if entry.name in names}
    indices = ",".join(sorted(found, key=int, reverse=True))
    for words in (indices, ",".join(sorted(names))):
        try:
            if {entry.name for entry in select_layers(planned, words)} == names:
                return words
        except SelectionError:
            continue
    raise _another(f"{min(names)}.bound")
