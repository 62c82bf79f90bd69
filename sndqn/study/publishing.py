"""What is put on the Hugging Face hub of an agent: a folder as those of shipped agents.

README.md              the card, with front matter that the hub reads
agent.safetensors      the agent
config.yaml            every setting of its training, if they are known
evaluation.json        its score, if it has one
episodes.jsonl         the episodes that prove it
replay.mp4             one of them, as a film; the hub shows a file of this name
study.yaml, configs/   the study that it comes from, if it does, ready for --study
"""

import statistics
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from sndqn.agents.agents import Agent, agent_from_bytes
from sndqn.agents.card import card
from sndqn.agents.evaluations import chosen_evaluation, read_evaluation, read_traces
from sndqn.agents.find import AgentPlace
from sndqn.agents.hub_names import HubName
from sndqn.console import Bar, say
from sndqn.errors import RunFolderError, SndqnError
from sndqn.evaluation import EvaluationRecord, Trace, write_episodes, write_video
from sndqn.evaluation.films import film
from sndqn.evaluation.window import drawing_unseen
from sndqn.files import write_bytes, write_json, write_text
from sndqn.runs.folder import RunFolder
from sndqn.study.bootstrap import Estimate, estimate
from sndqn.study.front_matter import front_matter
from sndqn.study.origin import Origin, find_origin
from sndqn.study.statistics import mean
from sndqn.training.shipping import portable_config

CLIP = "replay.mp4"
FILES = ("config.yaml", "evaluation.json", "episodes.jsonl", CLIP, "study.yaml")
"""What a push may leave and a later one takes away again, but for the card and the agent."""
_CLIP_SECONDS = 60
_PIN = "With `--sha256` and the digits above, the commands take this file and no other."


@dataclass(frozen=True)
class Parcel:
    """An agent and what is known of it.

    Attributes:
        agent: The agent.
        record: Its evaluation; None where there is none.
        interval: Of the mean return, over episodes; None with the record.
        clip: The number of the game that is shown; None where none is.
        origin: The study that it comes from, if it does.
    """

    agent: Agent
    record: EvaluationRecord | None = None
    interval: Estimate | None = None
    clip: int | None = None
    origin: Origin | None = None


def pack(
    place: AgentPlace,
    name: HubName,
    folder: Path,
    console: Console,
    evaluation: str | None = None,
    sha256: str | None = None,
) -> Parcel:
    """Writes what is put on the hub into a folder.

    Args:
        place: The agent's.
        name: What it is called on the hub.
        folder: An empty one.
        console: Where to say what is left out.
        evaluation: The name of the evaluation to put beside it; None for its own.
        sha256: What the SHA-256 of its file must be; None takes any.

    Raises:
        SndqnError: The agent, its evaluation or its configuration is damaged.
    """
    content, target = place.read(), RunFolder(folder)
    agent = agent_from_bytes(content, str(place.file), sha256)
    record, traces = _evaluation(place, agent, evaluation)
    write_bytes(target.agent, content)
    if place.folder.config.is_file():
        write_text(target.config, portable_config(place.folder))
    parcel = Parcel(agent, origin=find_origin(place.folder.path))
    if record is None:
        say(console, "It has no evaluation, and the card says so", style="yellow")
    else:
        write_json(target.evaluation, record.to_dict())
        write_episodes(target.episodes, traces)
        interval = estimate(mean, {agent.description.settings.name: record.returns})
        clip = _write_clip(folder / CLIP, record, traces, console)
        parcel = Parcel(agent, record, interval, clip, parcel.origin)
    if parcel.origin is not None:
        parcel.origin.write(folder)
    provenance = place.folder.read_provenance()
    played_with = traces[0].versions if traces else {}
    write_text(folder / "README.md", _card(name, parcel, provenance, played_with))
    return parcel


def _evaluation(
    place: AgentPlace, agent: Agent, name: str | None
) -> tuple[EvaluationRecord | None, list[Trace]]:
    """Reads the evaluation to put beside an agent, and the traces that prove it."""
    folder, which = chosen_evaluation(place, name)
    record = read_evaluation(folder)
    if record is None:
        return None, []
    if record.agent_sha256 != agent.sha256:
        raise RunFolderError(
            f"{folder.path}: expected the evaluation of this agent, found {which}, of another: "
            "type sndqn evaluate, and --evaluation with the name that it gives"
        )
    return record, read_traces(folder, record)


def _write_clip(
    file: Path, record: EvaluationRecord, traces: list[Trace], console: Console
) -> int | None:
    """Writes a film of the game of median return, its first minute; None where that fails."""
    number = record.returns.index(statistics.median_low(record.returns))
    try:
        with drawing_unseen(), Bar(console, "clip: ") as bar:
            pictures = film(traces[number])
            length = min(pictures.length, round(_CLIP_SECONDS * pictures.fps))
            frames = bar.over(islice(pictures.frames, length), length, "frames")
            write_video(file, frames, pictures.fps)
    except SndqnError as error:
        say(console, f"No clip: {error}", style="yellow")
        return None
    return number


def _card(
    name: HubName, parcel: Parcel, provenance: dict[str, Any], played_with: dict[str, str]
) -> str:
    rows, sections = [], [_PIN]
    if parcel.interval is not None and parcel.interval.low is not None:
        low, high = parcel.interval.low, parcel.interval.high
        rows.append(("95 % interval of the mean", f"{low:.2f} to {high:.2f}, bootstrap over games"))
    if parcel.clip is not None:
        sections.append(
            f"[{CLIP}]({CLIP}): game {parcel.clip} of the evaluation, the one of median return, or "
            f"its first {_CLIP_SECONDS} seconds."
        )
    if parcel.origin is not None:
        sections.append(parcel.origin.section())
        # What its process was started with names a folder of that machine.
        provenance = {**provenance, "command": parcel.origin.command()}
    if "versions" not in provenance and played_with:
        versions = ", ".join(f"{package} {version}" for package, version in played_with.items())
        sections.append(f"The games were played with {versions}.")
    body = card(
        str(name),
        parcel.agent,
        parcel.record,
        provenance,
        title=name.repo.partition("/")[2],
        install='pip install "sndqn[hub]"',
        rows=rows,
        sections=sections,
    )
    return front_matter(parcel.agent, parcel.record, parcel.interval) + body
