"""Weights out of a zip that Stable-Baselines3's save() wrote, of its DQN or sndqn's algorithms.

Of the members only policy.pth is read, by torch's reader of weights alone, in a process of its own
with little memory and time. The rest of such a zip is pickles: it is never looked at.
"""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from sndqn.agents.agents import spaces_of
from sndqn.agents.container import pack
from sndqn.agents.description import HEAD_OF, AgentDescription
from sndqn.agents.inference import Untold, network_of
from sndqn.envs import EnvSettings
from sndqn.errors import AgentFileError, SndqnError

MAX_BYTES = 128 * 1024 * 1024
_CHILD = Path(__file__).with_name("sb3_weights.py")
_SECONDS = 120
# Before it, a crafted file could damage the memory of the reader of weights (CVE-2026-24747).
_SAFE_TORCH = (2, 10)


def import_sb3(path: Path, settings: EnvSettings, untold: Untold) -> bytes:
    """Makes an agent file of the weights in an SB3 zip; `agent_from_bytes` checks what it says.

    Args:
        path: The zip: of SB3's DQN with MlpPolicy or CnnPolicy, or of sndqn's policies and
            algorithms.
        settings: The environment it learnt, which the zip does not say.
        untold: What weights do not tell.

    Raises:
        AgentFileError: It is no such zip, or it needs something else told.
    """
    tensors = _weights(_policy(path), path)
    try:
        spec = network_of(tensors, spaces_of(settings), untold)
    except SndqnError as error:
        raise AgentFileError(f"{path}: {error}") from None
    algo = next(name for name, head in HEAD_OF.items() if head == spec.head)
    return pack(tensors, AgentDescription(settings, spec, algo, 0, 0, 0.0))


def _policy(path: Path) -> bytes:
    """Returns the bytes of policy.pth, of which there must be one."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [entry for entry in archive.infolist() if entry.filename == "policy.pth"]
            content = b""
            if len(found) == 1:
                with archive.open(found[0]) as member:
                    content = member.read(MAX_BYTES + 1)
    except Exception as error:
        # zipfile and its decompressors each have their own way to refuse damage.
        reason = getattr(error, "strerror", None) or error
        raise AgentFileError(f"{path}: expected a zip that SB3's DQN saved ({reason})") from None
    if len(found) != 1:
        raise AgentFileError(f"{path}: expected one policy.pth in the zip, found {len(found)}")
    if len(content) > MAX_BYTES:
        raise AgentFileError(f"{path}: expected at most {MAX_BYTES} bytes of weights, found more")
    return content


def _weights(content: bytes, path: Path) -> dict[str, Tensor]:
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _SAFE_TORCH:
        raise AgentFileError(
            f"import-sb3: expected torch 2.10 or newer, whose reader of weights is safe, found "
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
            tensors = load(done.stdout)
            return {name.removeprefix("q_net."): tensor for name, tensor in tensors.items()}
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if done.returncode == 1 and lines else "more memory or time than allowed"
    except (subprocess.TimeoutExpired, SafetensorError) as error:
        reason = str(error)
    raise AgentFileError(f"{path}: expected weights alone in policy.pth, found {reason}")
