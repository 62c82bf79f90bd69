"""An agent's card: what it is, how it was made and what it scores, in Markdown."""

import shlex
from typing import Any

from sndqn.agents.agents import Agent
from sndqn.diagnostics import layer_norms
from sndqn.evaluation import EvaluationRecord

_CARD = """\
# {name}

{what} on {environment}

| | |
|---|---|
| steps | {timesteps:,}{kept}, seed {seed} |
| score | {mean:.1f} ± {std:.1f} over {episodes} whole games (ε {epsilon:g}, seed {eval_seed}) |
| lowest, highest | {lowest:g}, {highest:g} |
| SHA-256 of `agent.safetensors` | `{sha256}` |

    sndqn replay {name}
    sndqn evaluate {name}
    sndqn inspect {name}

## Training

    {command}

with {versions}. The settings in full are in `config.yaml`; on the same kind of machine
`sndqn train --env {env} --config config.yaml` makes this file again.

## Norms

σ of each layer's weight, and of the layer as it acts, by exact computation.

| index | layer | weight | σ(W) | acts with | normalised |
|---|---|---|---|---|---|
{norms}

## Limits

One training with one seed: the score is this agent's, not its algorithm's. It was measured under
the settings above, with the versions above, and each of its games is in `episodes.jsonl`. Reading
the file runs no code; the SHA-256 says that it is this file, and nothing about who made it.
"""


def card(name: str, agent: Agent, record: EvaluationRecord, provenance: dict[str, Any]) -> str:
    """Writes the card.

    Args:
        name: The agent's whole name: "CartPole/sn".
        agent: The agent.
        record: Its evaluation.
        provenance: Of its run: command and versions.
    """
    about, spectral = agent.description, agent.description.network.spectral
    normalised = (
        "without spectral normalisation"
        if spectral.layers == "none"
        else f"with spectral normalisation of layers {spectral.layers} "
        f"({spectral.mode}, bound {spectral.bound})"
    )
    return _CARD.format(
        name=name,
        what=f"`{about.name}` {normalised}",
        environment=about.settings.describe(),
        env=about.settings.name,
        timesteps=about.timesteps,
        seed=about.seed,
        kept=_kept(provenance),
        mean=record.mean,
        std=record.std,
        episodes=len(record.episodes),
        epsilon=record.protocol.epsilon,
        eval_seed=record.protocol.seed,
        lowest=record.min,
        highest=record.max,
        sha256=agent.sha256,
        command=shlex.join(_without_runs_dir(provenance["command"])),
        versions=", ".join(f"{name} {v}" for name, v in provenance["versions"].items()),
        norms="\n".join(
            f"| {row.index} | `{row.name}` | {'x'.join(map(str, row.shape))} | {row.raw:.4f} "
            f"| {row.effective:.4f} | {'' if row.bound is None else f'{row.mode} {row.bound:g}'} |"
            for row in layer_norms(agent.network, agent.network.observation_space, exact=True)
        ),
    )


def _kept(provenance: dict[str, Any]) -> str:
    """Says so where the weights are not the last ones of the training."""
    return ", the best of the evaluations on the way" if "kept" in provenance else ""


def _without_runs_dir(command: list[str]) -> list[str]:
    """Leaves out where the run lay on its machine."""
    if "--runs-dir" in command:
        at = command.index("--runs-dir")
        command = command[:at] + command[at + 2 :]
    return [word for word in command if not word.startswith("--runs-dir=")]
