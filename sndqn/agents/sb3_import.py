"""Weights out of a zip that Stable-Baselines3's save() wrote, as an agent file.

It may be of SB3's DQN, sb3-contrib's QRDQN or sndqn's algorithms. policy.pth is read by torch's
reader of weights alone, in a process of its own with little memory and time; data for what it says
in plain JSON, see `sb3_data`. The pickles in it and beside it are never looked at.
"""

import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from sndqn.agents.agents import Spaces, spaces_of
from sndqn.agents.container import pack
from sndqn.agents.description import HEAD_OF, AgentDescription
from sndqn.agents.inference import network_of
from sndqn.agents.sb3_data import MAX_BYTES as MAX_DATA_BYTES
from sndqn.agents.sb3_data import SavedData, read_data
from sndqn.agents.told import Told
from sndqn.agents.zoo_folder import zoo_settings
from sndqn.envs import EnvSettings
from sndqn.errors import AgentFileError, SndqnError, printable
from sndqn.networks import NetworkSpec

MAX_BYTES = 128 * 1024 * 1024
_CHILD = Path(__file__).with_name("sb3_weights.py")
_SECONDS = 120
# Before it, a crafted file could damage the memory of the reader of weights (CVE-2026-24747).
_SAFE_TORCH = (2, 10)


def import_sb3(path: Path, told: Told, default: EnvSettings | None = None) -> bytes:
    """Makes an agent file of an SB3 zip; `agent_from_bytes` checks what it says.

    Args:
        path: The zip: of SB3's DQN or sb3-contrib's QRDQN, with MlpPolicy, CnnPolicy or sndqn's
            policies, or of sndqn's algorithms. What rl-zoo wrote beside it tells its environment.
        told: What the user says of it: the environment, and what its own words do not tell.
        default: The environment, where neither says it.

    Raises:
        AgentFileError: It is no such zip, or it needs something else told.
    """
    members = _members(path)
    settings = told.settings or zoo_settings(path)
    remedy = "type the --env it learnt, and its --wrapper"
    if settings is None and default is not None:
        settings = default
        remedy = "make an agent file of it: sndqn import-sb3 ZIP --env NAME --output FILE"
    try:
        said = read_data(members["data"])
        if settings is None:
            raise AgentFileError(
                f"the zip does not say which environment it learnt{said.words}: type --env NAME"
            )
        where = spaces_of(settings)
        _check_spaces(said, where, f"{settings.name}: {remedy}")
        tensors = _as_ours(_weights(members["policy.pth"]), where[1])
        spec = network_of(tensors, where, told, said.told)
    except SndqnError as error:
        raise AgentFileError(f"{path}: {error}") from None
    spec = replace(spec, spectral=replace(spec.spectral, **_scheduler(said, spec)))
    algo = next(name for name, head in HEAD_OF.items() if head == spec.head)
    return pack(
        tensors, AgentDescription(settings, spec, algo, said.timesteps or 0, said.seed or 0, 0.0)
    )


def _scheduler(said: SavedData, spec: NetworkSpec) -> dict[str, Any]:
    return said.scheduler if spec.spectral.mode == "track" else {}


def _check_spaces(said: SavedData, where: Spaces, whose: str) -> None:
    """Refuses an environment that gives other observations than the zip says.

    Weights alone do not show it where sizes agree: a flat layer fits (10, 10, 4) and (4, 10, 10).
    """
    observations, actions = where
    expected, found = said.shape, observations.shape
    vectors = max(len(expected or ()), len(found or ())) < 2  # a scalar is a vector of one
    if expected is not None and found is not None and expected != found and not vectors:
        raise AgentFileError(
            f"expected observations {expected}, as the zip says, found {found} of {whose}"
        )
    n_actions = int(getattr(actions, "n", 0))
    if said.n_actions is not None and said.n_actions != n_actions:
        raise AgentFileError(
            f"expected {said.n_actions} actions, as the zip says, found {n_actions} of {whose}"
        )


def _as_ours(tensors: dict[str, Tensor], actions: spaces.Space[Any]) -> dict[str, Tensor]:
    """Returns tensors the names of `QNetwork`, and sb3-contrib's outputs its order.

    Its rows are the actions of each quantile; ours the quantiles of each action.
    """
    named = {name.removeprefix("q_net."): tensor for name, tensor in tensors.items()}
    inner = {name: re.fullmatch(r"quantile_net\.quantile_net\.(\d+)\.(.+)", name) for name in named}
    last = max((int(match[1]) for match in inner.values() if match is not None), default=0)
    n_actions = int(getattr(actions, "n", 1))
    ours: dict[str, Tensor] = {}
    for name, tensor in named.items():
        match = inner[name]
        if match is None:
            ours[name.removeprefix("quantile_net.")] = tensor
            continue
        # Of the vectors that follow σ, those on the side of the outputs go with them.
        side = {"weight": 0, "bias": 0, "running_u": 1}.get(match[2])
        if int(match[1]) == last and side is not None:
            if tensor.ndim <= side or tensor.shape[side] % n_actions:
                raise AgentFileError(
                    f"expected quantiles of {n_actions} actions, found {match[2]} of shape "
                    f"{tuple(tensor.shape)}: type the --env it learnt"
                )
            parts = tensor.view(*tensor.shape[:side], -1, n_actions, *tensor.shape[side + 1 :])
            tensor = parts.transpose(side, side + 1).flatten(side, side + 1).contiguous()
        ours[f"q_net.quantiles.layers.{match[1]}.{match[2]}"] = tensor
    return ours


def _members(path: Path) -> dict[str, bytes]:
    """Returns the bytes of policy.pth, of which there must be one, and of data, which may miss."""
    members = {"policy.pth": b"", "data": b""}
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist()]
            for name, most in (("policy.pth", MAX_BYTES), ("data", MAX_DATA_BYTES)):
                if names.count(name) == 1:
                    with archive.open(name) as member:
                        members[name] = member.read(most + 1)
    except Exception as error:
        # zipfile and its decompressors each have their own way to refuse damage.
        reason = printable(str(getattr(error, "strerror", None) or error), 1)
        raise AgentFileError(
            f"{path}: expected a zip that Stable-Baselines3 saved, found another file ({reason})"
        ) from None
    if names.count("policy.pth") != 1:
        raise AgentFileError(
            f"{path}: expected one policy.pth in the zip, found {names.count('policy.pth')}"
        )
    if len(members["policy.pth"]) > MAX_BYTES:
        raise AgentFileError(f"{path}: expected at most {MAX_BYTES} bytes of weights, found more")
    return members


@lru_cache(maxsize=1)  # who reads an agent twice does not wait for another process
def _weights(content: bytes) -> dict[str, Tensor]:
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _SAFE_TORCH:
        raise AgentFileError(
            f"expected torch 2.10 or newer, whose reader of weights is safe, found "
            f'{torch.__version__}: type pip install "torch>=2.10"'
        )
    # Isolated, and by its path: nothing of where the command was typed is imported.
    command = [sys.executable, "-I", str(_CHILD)]
    try:
        done = subprocess.run(
            command,
            input=content,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env={"OMP_NUM_THREADS": "1"},
        )
        if done.returncode == 0:
            return load(done.stdout)
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if done.returncode == 1 and lines else "more memory or time than allowed"
    except (subprocess.TimeoutExpired, SafetensorError) as error:
        reason = str(error)
    raise AgentFileError(f"expected weights alone in policy.pth, found {reason}")
