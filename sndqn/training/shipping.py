"""Putting a finished run among the agents that ship, and writing their index."""

import json
import re
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sndqn.agents.agents import Agent, load_agent
from sndqn.agents.card import card
from sndqn.agents.evaluations import read_evaluation, read_traces
from sndqn.agents.seeds import SEEDS_FILE, SeedScores
from sndqn.agents.shipped import INDEX
from sndqn.errors import RunFolderError
from sndqn.evaluation import Trace, write_episodes, write_video
from sndqn.evaluation.films import film
from sndqn.evaluation.window import drawing_unseen
from sndqn.files import sha256_of, write_json, write_text
from sndqn.files.shipped import shipped_dir
from sndqn.runs.folder import RunFolder
from sndqn.training.config import make_config
from sndqn.training.config_files import read_config

SCHEMA = "sndqn-agents-1"
MAX_AGENT_BYTES = 3 * 10**6
MAX_CLIP_BYTES = 10**6
CLIP = "replay.mp4"
CLIP_SECONDS = (20, 10, 5)  # the first of which is small enough
# What is worth watching first; the others follow by suite and name.
_FIRST = ("LunarLander-v3", "CartPole-v1")
_SUITES = ("atari", "control", "minatar")


def add_agent(
    run: RunFolder,
    name: str,
    evaluated: RunFolder | None = None,
    seeds: SeedScores | None = None,
) -> str:
    """Puts a finished run among the shipped agents and writes the index anew.

    Args:
        run: Evaluated, its episodes in place.
        name: What the agent is called within its environment: "sn".
        evaluated: Holds the evaluation to ship with it; None for the run's own.
        seeds: What the seeds of its study scored.

    Returns:
        The agent's whole name: "CartPole/sn".

    Raises:
        SndqnError: The run is not whole, the agent too large, or the name not free.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) is None:
        raise RunFolderError(
            f"--name: expected letters, digits, '.', '_' and '-', found {name[:80]!r}"
        )
    agent = load_agent(run.agent)
    evaluated = evaluated or run
    record = read_evaluation(evaluated)
    if record is None or record.agent_sha256 != agent.sha256:
        raise RunFolderError(
            f"{evaluated.path}: expected the evaluation of its agent, found "
            f"{'none' if record is None else 'another one'}: type sndqn evaluate {run.path}, and "
            "--evaluation with the name it gives"
        )
    traces = read_traces(evaluated, record)
    if run.agent.stat().st_size >= MAX_AGENT_BYTES:
        raise RunFolderError(
            f"{run.agent}: expected less than {MAX_AGENT_BYTES:,} bytes, found "
            f"{run.agent.stat().st_size:,}: agents ship inside the package"
        )
    config = portable_config(run)
    whole_name = f"{agent.description.settings.name.rsplit('-v', 1)[0]}/{name}"
    folder = RunFolder(shipped_dir("agents") / whole_name)
    if folder.path.exists():
        raise RunFolderError(f"--name: {folder.path} exists: delete it, or type another name")
    provenance = json.loads(run.provenance.read_text())
    folder.path.mkdir(parents=True)
    write_episodes(folder.episodes, traces)
    shutil.copyfile(run.agent, folder.agent)
    shutil.copyfile(evaluated.evaluation, folder.evaluation)
    write_text(folder.config, config)
    rows, sections = [], []
    if seeds is not None:
        write_json(folder.path / SEEDS_FILE, seeds.to_json())
        which = f"study `{seeds.study}`, arm `{seeds.arm}`"
        rows.append((which, f"{seeds.summary}; this agent is {seeds.place}"))
    if seconds := _write_clip(folder.path / CLIP, agent, traces):
        words = f"the best game's first {seconds} seconds, with its Q-values"
        sections.append(f"[{CLIP}]({CLIP}): {words}.")
    text = card(whole_name, agent, record, provenance, rows=rows, sections=sections)
    write_text(folder.path / "README.md", text)
    write_index()
    return whole_name


def portable_config(run: RunFolder) -> str:
    """Returns a run's settings without where its folder lay, which means nothing elsewhere.

    Raises:
        ConfigError: They are damaged.
    """
    config = make_config(read_config(str(run.config)))
    return config.model_copy(update={"runs_dir": "runs"}).to_yaml()


def write_index() -> None:
    """Writes the index of the agents that are there."""
    write_json(shipped_dir("agents") / INDEX, index_of(shipped_dir("agents")))


def index_of(root: Path) -> dict[str, Any]:
    """Makes the index of the agents in a folder, from their files."""
    entries = {
        path.parent.relative_to(root).as_posix(): _entry(path.parent)
        for path in root.rglob("agent.safetensors")
    }
    names = sorted(entries, key=lambda name: rank(name, entries[name]))
    return {"schema": SCHEMA, "agents": {name: entries[name] for name in names}}


def rank(name: str, entry: dict[str, Any]) -> tuple[int, int, str, float, str]:
    """Sorts by suite and game, the best agent of a game first."""
    env = entry["env"]
    first = _FIRST.index(env) if env in _FIRST else len(_FIRST)
    return _SUITES.index(entry["suite"]), first, env, -entry["mean"], name


def _write_clip(file: Path, agent: Agent, traces: Sequence[Trace]) -> int:
    """Writes the beginning of the best game, with the agent's Q-values.

    Returns:
        Its seconds; 0, and no file, where even the shortest beginning gets too large.
    """
    best = min(traces, key=lambda trace: (-trace.episode_return, trace.length))
    for seconds in CLIP_SECONDS:
        with drawing_unseen():
            pictures = film(best, agent.values, every_frame=False)
            count = int(seconds * pictures.fps)
            write_video(file, islice(pictures.frames, count), pictures.fps)
        if file.stat().st_size < MAX_CLIP_BYTES:
            return seconds
        file.unlink()
    return 0


def _entry(folder: Path) -> dict[str, Any]:
    run = RunFolder(folder)
    about = load_agent(run.agent).description
    record = read_evaluation(run)
    assert record is not None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "env": about.settings.name,
        "suite": about.settings.suite,
        "algo": about.algo,
        **({} if about.title is None else {"title": about.title}),
        "sn_layers": about.network.spectral.layers,
        "timesteps": about.timesteps,
        "seed": about.seed,
        "mean": record.mean,
        "std": record.std,
        "episodes": len(record.episodes),
        "bytes": run.agent.stat().st_size,
        "files": {
            path.relative_to(folder).as_posix(): sha256_of(path.read_bytes()) for path in files
        },
    }
