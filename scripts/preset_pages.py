"""Writes a page for each suite's shipped configurations: docs/presets/atari.md and its like.

    python scripts/preset_pages.py

A page holds what the files in configs/ say of themselves, and what docs/presets/scores.yaml knows
of their scores. So a new configuration takes an entry there and a call of this script.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import yaml

from sndqn.training.config_files import read_config, shipped_configs

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "presets"
SUITES = {
    "atari": "Atari",
    "minatar": "MinAtar",
    "control": "Classic control, and any Gymnasium id",
}
FLAGS = ("double", "dueling", "noisy", "munchausen", "prioritized")
# What to type for an environment, by the end of a file's name or else by its suite.
ENVS = {
    "acrobot": "Acrobot",
    "cartpole": "CartPole",
    "lunarlander": "LunarLander",
    "mountaincar": "MountainCar",
}
ANY = {"atari": "Breakout", "minatar": "MinAtar/Breakout", "control": "Taxi"}
HEAD = """# {title}

Written by `python scripts/preset_pages.py` from the files in `configs/{suite}` and from
[what is known of their scores](scores.yaml). What a score means, here and elsewhere:
[protocols](../protocols.md).
"""


def command(name: str) -> str:
    """Gives what to type for a shipped configuration, "atari/rainbow"."""
    suite, _, title = name.partition("/")
    preset, _, end = title.rpartition("-")
    env = ENVS.get(end, ANY[suite])
    preset = preset if end in ENVS else title
    return f"sndqn train --env {env}" + ("" if preset == "dqn" else f" --config {preset}")


def parts(path: Path) -> tuple[list[str], str]:
    """Splits a file into what it says of itself, departures apart, and its settings."""
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    words = " ".join(line.removeprefix("#").strip() for line in lines[:first])
    said = [part.strip() for part in re.split(r"(?=\bDepartures?:)", words, maxsplit=1)]
    return said, "\n".join(lines[first:]).strip()


def short(number: int) -> str:
    """Writes 2000000 as 2M and 100000 as 100k."""
    return f"{number // 10**6}M" if number % 10**6 == 0 else f"{number // 1000}k"


def row(title: str, settings: dict[str, Any]) -> list[str]:
    """Gives a configuration's row in the table at the top of its page."""
    flags = [flag for flag in FLAGS if settings.get(flag)]
    flags += [f"{settings['n_steps']} steps"] if settings.get("n_steps", 1) > 1 else []
    eps = f", ε {settings['optimizer_eps']:g}" if "optimizer_eps" in settings else ""
    return [
        f"[`{title}`](#{title})",
        str(settings.get("algo", "dqn")),
        ", ".join(flags),
        str(settings.get("sn_layers", "-2")),
        short(settings["total_timesteps"]),
        f"{settings.get('optimizer', 'adam')} {settings['learning_rate']:g}{eps}",
    ]


def table(rows: list[list[Any]]) -> str:
    """Gives a Markdown table; the first row is its head."""
    head, *body = [" | ".join(map(str, cells)) for cells in rows]
    lines = [head, " | ".join(["---"] * len(rows[0])), *body]
    return "\n".join(f"| {line} |" for line in lines)


def section(name: str, known: dict[str, Any]) -> str:
    """Gives what a page says of one configuration."""
    said, settings = parts(ROOT / "configs" / f"{name}.yaml")
    paragraphs = [
        f"## {name.partition('/')[2]}",
        *(re.sub(r"^(Departures?):", r"*\1*:", part) for part in said),
        f"`{command(name)}`",
        f"*Published*: {known['published'].strip()}",
        *([table(known["table"])] if "table" in known else []),
        f"*Ours*: {known['measured'].strip()}",
        f"```yaml\n{settings}\n```",
    ]
    return "\n\n".join(paragraphs)


def page(suite: str) -> str:
    """Gives a suite's page."""
    scores = yaml.safe_load((PAGES / "scores.yaml").read_text())
    names = [name for name in shipped_configs() if name.startswith(f"{suite}/")]
    unknown = [name for name in names if name not in scores["presets"]]
    if unknown:
        raise SystemExit(f"docs/presets/scores.yaml: expected an entry for {', '.join(unknown)}")
    rows = [["", "algorithm", "flags", "SN", "steps", "optimiser"]]
    rows += [row(name.partition("/")[2], read_config(name)) for name in names]
    text = "\n\n".join(section(name, scores["presets"][name]) for name in names)
    sources = [
        f"- *{key}*: {source.strip()}"
        for key, source in scores["sources"].items()
        if f"[{key}](#sources)" in text
    ]
    ends = ["", "## Sources", "", *sources] if sources else []
    head = HEAD.format(title=SUITES[suite], suite=suite)
    return "\n".join([head, table(rows), "", text, *ends, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=PAGES, help="folder of the pages")
    folder = parser.parse_args().output
    for suite in SUITES:
        (folder / f"{suite}.md").write_text(page(suite))


if __name__ == "__main__":
    main()
