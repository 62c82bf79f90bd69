"""A run that is killed and taken up again ends as the one that was not, to the bit.

By default a share of the trials is made; `./scripts/test.sh --slow tests/test_resume.py` makes all:
every file operation of a small run, 200 random times of classic control and MinAtar, 20 of Atari.
"""

import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from killed_runs import ATARI, SMALL, VARIANTS, finish, n_operations, outcome, start, the_run

slow = pytest.mark.slow


class Reference:
    """An uninterrupted run: how it ended, and how long it took."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.settings = settings
        begun = time.monotonic()
        finish(folder, settings)
        self.seconds = time.monotonic() - begun
        self.operations = n_operations(folder)
        self.outcome = outcome(folder)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives the reference run of settings, made when first asked for."""
    made: dict[str, Reference] = {}

    def reference(name: str, settings: dict[str, Any]) -> Reference:
        if name not in made:
            made[name] = Reference(tmp_path_factory.mktemp("reference") / "runs", settings)
        return made[name]

    return reference


def killed_at_random(folder: Path, reference: Reference, draw: random.Random) -> int:
    """Kills a run up to three times, at uniform times, then lets it end; gives the kills."""
    kills = 0
    for _ in range(draw.randint(1, 3)):
        process = start(folder, reference.settings)
        process.join(draw.uniform(0, reference.seconds))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    if process.exitcode != 0:
        finish(folder, reference.settings)
    return kills


def trials(n: int, n_default: int) -> list[Any]:
    return [pytest.param(i, marks=[] if i < n_default else slow) for i in range(n)]


@pytest.mark.parametrize("share", trials(20, 1))
def test_killed_at_any_file_operation_it_ends_the_same(
    share: int, references: Any, tmp_path: Path
) -> None:
    reference = references("dqn", SMALL)
    assert reference.operations > 60
    fatal = list(range(1 + share, reference.operations + 1, 20))
    # By default a few of these; a run begins with the operations of its folder and configuration.
    for number in fatal if share else fatal[:: max(len(fatal) // 4, 1)]:
        folder = tmp_path / f"killed-at-{number}" / "runs"
        folder.parent.mkdir()
        process = start(folder, SMALL, number)
        process.join()
        assert process.exitcode == -9
        finish(folder, SMALL)
        assert outcome(folder) == reference.outcome, number
        shutil.rmtree(folder.parent)


@pytest.mark.parametrize("trial", trials(34, 1))
@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_at_any_time_it_ends_the_same(
    variant: str, trial: int, references: Any, tmp_path: Path
) -> None:
    reference = references(variant, VARIANTS[variant])
    killed_at_random(tmp_path / "runs", reference, random.Random(f"{variant}-{trial}"))
    assert outcome(tmp_path / "runs") == reference.outcome


@pytest.mark.parametrize("trial", trials(20, 1))
def test_an_atari_run_killed_at_any_time_ends_the_same(
    trial: int, references: Any, tmp_path: Path
) -> None:
    reference = references("atari", ATARI)
    killed_at_random(tmp_path / "runs", reference, random.Random(trial))
    assert outcome(tmp_path / "runs") == reference.outcome
    assert the_run(tmp_path / "runs") is not None
