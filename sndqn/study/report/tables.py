"""The report's tables: runs, settings, where they come from, and what to know before believing."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from sndqn.console import clock
from sndqn.study.arms import shown
from sndqn.study.report.charts import number
from sndqn.study.report.words import joined
from sndqn.study.results import Results, RunResult

# Letters of a cell: of files that came from elsewhere it may be anything.
_LONGEST = 800
_ORDER = ("done", "running", "interrupted", "failed", "waiting")


def status_words(results: Results) -> str:
    """Writes how many runs there are and how far they are: "12 runs: 10 done, 2 running"."""
    counts: Counter[str] = Counter(run.status for run in results.runs)
    counts["waiting"] += results.waiting
    total = sum(counts.values())
    parts = [f"{counts[status]} {status}" for status in _ORDER if counts[status]]
    if results.unreadable:
        parts.append(f"{len(results.unreadable)} more not readable")
    return f"{total} {'run' if total == 1 else 'runs'}: {', '.join(parts) or 'none'}"


def notes_of(results: Results) -> list[str]:
    """Returns what a reader should know before believing the numbers, a sentence each."""
    notes = []
    if results.repeated:
        notes.append(
            f"{len(results.repeated)} left out: they repeat another run's arm, game and seed, and "
            "the same seed gives the same numbers."
        )
    for env in results.envs:
        protocols = {protocol_words(run) for run in results.runs if run.env == env} - {None}
        if len(protocols) > 1:
            notes.append(
                f"{env}: runs are evaluated in {len(protocols)} ways, so their scores are not "
                f"comparable: {joined(sorted(map(str, protocols)))}."
            )
        lengths = {run.settings["total_timesteps"] for run in results.runs if run.env == env}
        if len(lengths) > 1 and "total_timesteps" not in results.differing:
            notes.append(f"{env}: runs are of {len(lengths)} lengths.")
    best = [run for run in results.runs if run.settings.get("keep_best")]
    if best:
        notes.append(
            f"{len(best)} of {len(results.runs)} runs keep the best network of the evaluations on "
            "the way (keep_best), not the last: their scores are of a maximum."
        )
    for arm in results.arms:
        gaps = [gap for run in results.runs if run.arm == arm and (gap := _gap_of_copies(run))]
        if gaps:
            runs = f"{len(gaps)} {'run' if len(gaps) == 1 else 'runs'}"
            notes.append(
                f"{arm}: its target network is not a copy of the online one after an update that "
                f"copies it: Q-values differ by up to {number(max(gaps))} on average ({runs}). "
                "Something in it is not copied."
            )
    return notes


def _gap_of_copies(run: RunResult) -> float:
    """Returns how far a target network was from the online one it should have been a copy of."""
    gaps = run.course.totals.get("target_gap_after_sync")
    if gaps is None or run.settings["tau"] != 1:
        return 0.0
    return float(np.nan_to_num(gaps.values).max())


def protocol_words(run: RunResult) -> str | None:
    """Writes how a run was evaluated; None before."""
    if run.evaluation is None:
        return None
    how = run.evaluation.protocol
    limit = "" if how.max_steps is None else f", at most {how.max_steps:,} steps"
    return f"{how.episodes} episodes, ε {how.epsilon:g}, seed {how.seed}{limit}"


def run_rows(results: Results) -> list[dict[str, Any]]:
    """Returns a row for each run, for people."""
    return [
        {
            "name": run.name,
            "arm": run.arm,
            "env": run.env,
            "seed": run.seed,
            "status": run.status,
            "steps": f"{run.course.timesteps:,} of {run.settings['total_timesteps']:,}",
            "score": "–" if run.score is None else number(run.score),
            "episodes": "–" if run.evaluation is None else len(run.evaluation.episodes),
            "seconds": "–" if run.seconds is None else clock(run.seconds),
        }
        for run in results.runs
    ]


def run_cells(results: Results) -> list[list[Any]]:
    """Returns the lines of runs.csv, the header first."""
    names = results.differing
    header = ["arm", "game", "seed", "status", "timesteps", "mean return", "std", "episodes"]
    lines: list[list[Any]] = [[*header, "seconds", *names, "folder"]]
    for run in results.runs:
        record = run.evaluation
        scores = [None] * 3 if record is None else [record.mean, record.std, len(record.episodes)]
        head = [run.arm, run.env, run.seed, run.status, run.course.timesteps, *scores]
        cells = [shown(run.settings.get(name)) for name in names]
        lines.append([*head, run.seconds, *cells, str(run.path)])
    return lines


def differing_table(results: Results) -> dict[str, Any]:
    """Returns the settings that differ, a row for each arm; values of several games by comma."""
    rows = []
    for arm in results.arms if results.differing else ():
        runs = [run for run in results.runs if run.arm == arm]
        cells = [
            joined(list(dict.fromkeys(shown(run.settings.get(name)) for run in runs)))
            for name in results.differing
        ]
        rows.append({"arm": arm, "cells": cells})
    return {"names": results.differing, "rows": rows}


def provenance_rows(results: Results) -> list[tuple[str, str]]:
    """Returns how runs were evaluated and what they were made with, where they differ all of it."""
    facts: list[tuple[str, Any]] = [
        ("Evaluation", lambda run: protocol_words(run)),
        ("Environment", _environment),
        ("Steps of training", lambda run: f"{run.settings['total_timesteps']:,}"),
        ("Started", lambda run: str(run.provenance.get("started", ""))[:10]),
        ("Machine", _machine),
        ("Python", lambda run: run.provenance.get("python")),
        ("Packages", _packages),
    ]
    rows = []
    for name, fact in facts:
        found = sorted({str(value) for run in results.runs if (value := fact(run))})
        if found:
            rows.append((name, _cut(joined(found))))
    if len(results.runs) == 1:
        command = results.runs[0].provenance.get("command")
        if isinstance(command, list):
            rows.append(("Command", _cut(" ".join(map(str, command)))))
    return rows


def _cut(words: str) -> str:
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"


def _environment(run: RunResult) -> str | None:
    """Writes what a game was played with, as far as its evaluation says."""
    settings: Mapping[str, Any] = {} if run.evaluation is None else run.evaluation.settings
    left_out = ("modules", "wrappers", "arranged")
    parts = [
        f"{name} {shown(value)}"
        for name, value in settings.items()
        if name not in left_out and not isinstance(value, dict | list)
    ]
    return f"{run.env} ({', '.join(parts)})" if parts else None


def _machine(run: RunResult) -> str | None:
    about = run.provenance
    if not about.get("platform"):
        return None
    gpu = f", {about['cuda']}" if about.get("cuda") else ""
    return f"{about['platform']}, {about.get('cpus', '?')} CPUs{gpu}"


def _packages(run: RunResult) -> str | None:
    versions = run.provenance.get("versions")
    if not isinstance(versions, dict):
        return None
    return ", ".join(f"{name} {version}" for name, version in versions.items())
