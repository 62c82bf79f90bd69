"""The script that ships a study's agent takes the median seed alone, as its scores have it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sndqn.agents.shipped import shipped_agent
from sndqn.errors import RunFolderError
from sndqn.runs.folder import RunFolder

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from ship_agent import seeds_beside  # noqa: E402

CONTROL = ROOT / "docs" / "evidence" / "control.json"


@pytest.fixture
def run() -> RunFolder:
    """LunarLander's agent with SN, which is seed 0 of three."""
    return RunFolder(shipped_agent("LunarLander/sn"))


def changed(path: Path, **values: Any) -> Path:
    """Writes the scores of LunarLander with other values of seed 0."""
    entries = json.loads(CONTROL.read_text())["runs"]
    mine = [entry for entry in entries if entry["env"] == "LunarLander-v3"]
    path.write_text(json.dumps({"runs": [e | (values if e["seed"] == 0 else {}) for e in mine]}))
    return path


def test_the_median_seed_has_the_scores_of_all(run: RunFolder) -> None:
    seeds = seeds_beside(run, CONTROL, "sn")
    assert seeds.study == "control"
    assert seeds.median_seed == 0
    assert sorted(seeds.scores) == [0, 1, 2]


def test_another_seed_is_refused(run: RunFolder, tmp_path: Path) -> None:
    best = changed(tmp_path / "control.json", mean=300.0)
    with pytest.raises(RunFolderError, match="expected seed 2, the median of 3, found seed 0"):
        seeds_beside(run, best, "sn")


def test_a_run_that_scored_otherwise_is_refused(run: RunFolder, tmp_path: Path) -> None:
    other = changed(tmp_path / "control.json", mean=253.0)
    with pytest.raises(RunFolderError, match=r"expected a score of 253\.0, found 253\.3"):
        seeds_beside(run, other, "sn")


def test_an_arm_without_runs_is_refused(run: RunFolder) -> None:
    with pytest.raises(RunFolderError, match="expected runs of arm none-such"):
        seeds_beside(run, CONTROL, "none-such")
