"""An agent's card: what it is, how it was made and what it scores, in Markdown."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sndqn.agents.agents import Agent
from sndqn.diagnostics import layer_norms
from sndqn.evaluation import EvaluationRecord

_TRAINING = """\
## Training

    {command}

with {made_with}. The settings in full are in `config.yaml`; on the same kind of machine
`sndqn train --env {env} --config config.yaml` makes this file again."""
_STUDY_TRAINING = """\
## Training

    sndqn train --env {env} --config config.yaml

makes this file again on the same kind of machine. It was made as a run of a study, with
{made_with}; `config.yaml` has its settings in full."""
_NORMS = """\
## Norms

σ of each layer's weight, and of the layer as it acts, by exact computation.

| index | layer | weight | σ(W) | acts with | normalised |
|---|---|---|---|---|---|
{rows}"""
_LIMITS = """\
## Limits

One training with one seed: {score} Reading
the file runs no code; the SHA-256 says that it is this file, and nothing about who made it."""
_SCORE = """\
the score is this agent's, not its algorithm's. It was measured under
the settings above, with the versions above, and each of its games is in `episodes.jsonl`."""


def card(
    name: str,
    agent: Agent,
    record: EvaluationRecord | None,
    provenance: Mapping[str, Any],
    *,
    title: str | None = None,
    install: str | None = None,
    rows: Sequence[tuple[str, str]] = (),
    sections: Sequence[str] = (),
) -> str:
    """Writes the card.

    Args:
        name: What one types for the agent: "CartPole/sn".
        agent: The agent.
        record: Its evaluation; None where there is none, and the card says so.
        provenance: Of its run, command and versions; empty where that is not known.
        title: Stands above the card; by default the name.
        install: What one types before the card's commands, if anything.
        rows: Of the table at its top, after the score: each a word and a value.
        sections: What comes before its training, in Markdown.
    """
    about = agent.description
    facts = [
        ("steps", f"{about.timesteps:,}{_kept(provenance)}, seed {about.seed}"),
        *_score(record),
        *rows,
        ("SHA-256 of `agent.safetensors`", f"`{agent.sha256}`"),
    ]
    commands = [f"sndqn {command} {name}" for command in ("replay", "evaluate", "inspect")]
    if install is not None:
        commands.insert(0, install)
    parts = [
        f"# {title or name}",
        f"{what_it_is(agent)} on {about.settings.describe()}",
        "\n".join(["| | |", "|---|---|", *(f"| {word} | {value} |" for word, value in facts)]),
        "\n".join(f"    {command}" for command in commands),
        *sections,
        _training(about.settings.name, provenance),
        _NORMS.format(rows="\n".join(_norms(agent))),
        _LIMITS.format(score="nothing was measured of it." if record is None else _SCORE),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def what_it_is(agent: Agent) -> str:
    """Says of which algorithm it is, and which layers are under SN."""
    spectral = agent.description.network.spectral
    normalised = (
        f"with spectral normalisation of layers {spectral.layers} "
        f"({spectral.mode}, bound {spectral.bound})"
    )
    if spectral.layers == "none":
        normalised = "without spectral normalisation"
    elif spectral.mode == "init":
        normalised = (
            f"without spectral normalisation, from initial weights of layers {spectral.layers} "
            f"scaled to σ {spectral.bound}"
        )
    return f"`{agent.description.name}` {normalised}"


def _score(record: EvaluationRecord | None) -> list[tuple[str, str]]:
    if record is None:
        return [("score", "not evaluated yet")]
    how = record.protocol
    cut = {"max_steps", "hopeless"} & set(record.ended_by)
    games = "games, some of them cut" if cut else "whole games"
    score = f"{record.mean:.1f} ± {record.std:.1f} over {len(record.episodes)} {games}"
    return [
        ("score", f"{score} (ε {how.epsilon:g}, seed {how.seed})"),
        ("lowest, highest", f"{record.min:g}, {record.max:g}"),
    ]


def _training(env: str, provenance: Mapping[str, Any]) -> str:
    if "versions" not in provenance:
        return ""
    made_with = ", ".join(f"{name} {v}" for name, v in provenance["versions"].items())
    if provenance.get("commit"):
        made_with = f"commit {provenance['commit']}, {made_with}"
    command = provenance["command"]
    # What a study's worker was told says nothing without the study.
    form = _STUDY_TRAINING if "--run" in command else _TRAINING
    return form.format(command=shlex.join(_without_runs_dir(command)), made_with=made_with, env=env)


def _norms(agent: Agent) -> list[str]:
    return [
        f"| {row.index} | `{row.name}` | {'x'.join(map(str, row.shape))} | {row.raw:.4f} "
        f"| {row.effective:.4f} | {'' if row.bound is None else f'{row.mode} {row.bound:g}'} |"
        for row in layer_norms(agent.network, agent.network.observation_space, exact=True)
    ]


def _kept(provenance: Mapping[str, Any]) -> str:
    """Says so where the weights are not the last ones of the training."""
    return ", the best of the evaluations on the way" if "kept" in provenance else ""


def _without_runs_dir(command: list[str]) -> list[str]:
    """Leaves out where the run lay on its machine."""
    if "--runs-dir" in command:
        at = command.index("--runs-dir")
        command = command[:at] + command[at + 2 :]
    return [word for word in command if not word.startswith("--runs-dir=")]
