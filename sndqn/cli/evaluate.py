"""`sndqn evaluate`: plays the games of a protocol and keeps them as traces."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sndqn.agents import Agent, agent_from_bytes, find_agent, read_agent_bytes
from sndqn.agents.evaluations import check_name, default_name, keep_evaluation, write_evaluation
from sndqn.console import say
from sndqn.envs import describe
from sndqn.errors import ConfigError, RunFolderError
from sndqn.evaluation import EvaluationProtocol
from sndqn.evaluation.protocol import STEPS_WITHOUT_LIMIT, limited
from sndqn.files import write_bytes
from sndqn.runs.folder import RunFolder
from sndqn.training.components import protocol
from sndqn.training.config import TrainConfig, make_config
from sndqn.training.config_files import read_config
from sndqn.training.run import play


def evaluate(
    given: str,
    changes: dict[str, Any],
    name: str | None,
    output: str | None,
    sha256: str | None,
    console: Console,
    wrappers: Sequence[str] = (),
) -> None:
    """Evaluates an agent, and keeps the result beside its other evaluations.

    The first one of an agent file by itself is its own. Every other goes to evaluations/NAME/: what
    a training left is never written over.

    Args:
        given: As for `sndqn.agents.find_agent`.
        changes: Of the protocol: `episodes`, `epsilon`, `seed`, `max_steps`.
        name: What to call the evaluation; None for what tells how it is made.
        output: Folder for evaluations and a copy of the agent; None for the agent's own.
        sha256: What the SHA-256 of the agent's file must be; None takes any.
        console: Where to say how it goes.
        wrappers: Those that were typed; the agent must have learnt with them.
    """
    place = find_agent(given)
    content = read_agent_bytes(place.file)
    agent = agent_from_bytes(content, str(place.file), sha256)
    settings = agent.description.settings
    for wrapper in wrappers:
        if wrapper not in getattr(settings, "wrappers", []):
            raise ConfigError(f"--wrapper {wrapper}: the agent learnt without it: leave it out")
    how = limited(replace(_protocol(place.folder, agent), **changes), settings)
    target = place.output if output is None else RunFolder(Path(output))
    if target.agent.absolute() != place.file.absolute():
        _open_folder(target, content)
    if name is not None:
        check_name(target, name, how, agent.sha256)
    say(console, describe(settings, how.max_steps or STEPS_WITHOUT_LIMIT))
    say(console, f"sha256 {agent.sha256}")
    record = play(agent, how, console)
    alone = not target.config.exists() and not target.evaluation.exists()
    if alone and name is None:
        write_evaluation(target, record)
        say(console, f"Next: sndqn replay {target.path}", style="bold")
        return
    kept, is_new = keep_evaluation(target, record, name or default_name(how))
    where = target.evaluations / kept
    say(console, f"Kept: {where}" if is_new else f"The same to the bit as {where}, which stays")
    say(console, f"Next: sndqn replay {target.path} --evaluation {kept}", style="bold")


def _protocol(folder: RunFolder, agent: Agent) -> EvaluationProtocol:
    """Gives the protocol of an agent's training; of the defaults, where nobody knows it."""
    if folder.config.is_file():
        return protocol(make_config(read_config(str(folder.config))))
    about = agent.description
    default = protocol(TrainConfig(env=about.settings.name))
    return replace(default, epsilon=about.eval_epsilon)


def _open_folder(target: RunFolder, content: bytes) -> None:
    """Makes a folder for an evaluation, with the agent in it, but not where another one is."""
    try:
        target.path.mkdir(parents=True, exist_ok=True)
        other = target.config.exists() or (
            target.agent.exists() and target.agent.read_bytes() != content
        )
    except OSError as error:
        raise RunFolderError(f"--output: cannot make {target.path}: {error.strerror}") from None
    if other:
        raise RunFolderError(
            f"{target.path}: expected a folder for this agent's evaluation, found another agent's: "
            "type --output FOLDER"
        )
    write_bytes(target.agent, content)
