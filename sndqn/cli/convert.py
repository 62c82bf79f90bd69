"""`sndqn export` and `sndqn import-sb3`: agents for other tools, and from Stable-Baselines3."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from sndqn.agents import Agent, agent_from_bytes, find_agent, read_agent_bytes
from sndqn.agents.export import to_onnx, to_sb3
from sndqn.agents.inference import Untold
from sndqn.agents.sb3_import import import_sb3
from sndqn.console import say
from sndqn.diagnostics.tables import spectral_sentence
from sndqn.errors import AgentFileError
from sndqn.files import write_bytes
from sndqn.training.components import env_settings
from sndqn.training.config import make_config

_FORMATS: dict[str, tuple[str, Callable[[Agent], bytes]]] = {
    "onnx": (".onnx", to_onnx),
    "sb3": (".zip", to_sb3),
}


def export(given: str, form: str, output: str | None, sha256: str | None, console: Console) -> None:
    """Writes an agent as a file of its own.

    Args:
        given: As for `sndqn.agents.find_agent`.
        form: "sndqn", "onnx" or "sb3".
        output: The file; None for the agent's name in the current folder.
        sha256: What the SHA-256 of the agent's file must be; None takes any.
        console: Where to say what was written.
    """
    place = find_agent(given)
    content = read_agent_bytes(place.file)
    agent = agent_from_bytes(content, str(place.file), sha256)
    suffix, convert = _FORMATS.get(form, (".safetensors", lambda _: content))
    path = _new_file(output or f"{place.label}{suffix}")
    converted = convert(agent)
    write_bytes(path, converted)
    say(console, f"{path}: {len(converted):,} bytes, of the agent with sha256 {agent.sha256}")


def import_agent(
    zip_file: str,
    env: Mapping[str, Any],
    untold: dict[str, Any],
    output: str,
    console: Console,
) -> None:
    """Makes an agent file of the weights in an SB3 zip.

    Args:
        zip_file: The zip.
        env: What says which environment it learnt: settings of a training, `env` among them.
        untold: What weights do not tell, as arguments of `sndqn.agents.inference.Untold`.
        output: The file to write.
        console: Where to say what was written.
    """
    path = _new_file(output)
    settings = env_settings(make_config(env))
    content = import_sb3(Path(zip_file), settings, Untold(**untold))
    agent = agent_from_bytes(content, zip_file)
    write_bytes(path, content)
    say(console, settings.describe())
    network = agent.description.network
    mode = f", --sn-mode {network.spectral.mode}" if network.spectral.layers != "none" else ""
    say(console, f"Weights do not tell, so taken: --activation {network.activation}{mode}")
    say(console, spectral_sentence(agent.network, network.spectral))
    say(console, f"{path}: {agent.description.algo}, weights alone, sha256 {agent.sha256}")
    say(console, f"Next: sndqn evaluate {path}", style="bold")


def _new_file(name: str) -> Path:
    path = Path(name)
    if path.exists():
        raise AgentFileError(f"--output: {path} exists already. Type another name")
    return path
