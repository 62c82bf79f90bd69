"""An interrupted evaluation keeps its finished episodes, and goes on with the missing ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded_episodes import whim

from sndqn.envs import resolve_env
from sndqn.evaluation import EvaluationProtocol, EvaluationRecord, Trace, evaluate

SETTINGS = resolve_env("MinAtar/Breakout")
PROTOCOL = EvaluationProtocol(episodes=6, epsilon=0.1)
AGENT = "ab" * 32


def play(
    path: Path | None, *, stop_after: int | None = None, **changes: Any
) -> tuple[EvaluationRecord, set[int]]:
    """Evaluates; gives the record and the numbers of the episodes that were played."""
    numbers: set[int] = set()
    ends: list[int] = []

    def on_episode(number: int, trace: Trace) -> None:
        ends.append(number)
        if len(ends) == stop_after:
            raise KeyboardInterrupt

    arguments = {"settings": SETTINGS, "protocol": PROTOCOL, "agent_sha256": AGENT, **changes}
    record = evaluate(
        q_function=whim(6),
        on_step=lambda number, step: numbers.add(number),
        on_episode=on_episode,
        n_envs=2,
        unfinished=path,
        **arguments,
    )
    return record, numbers


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an evaluation that was interrupted after three of six episodes."""
    path = tmp_path / "new folder" / "evaluation.unfinished.jsonl"
    with pytest.raises(KeyboardInterrupt):
        play(path, stop_after=3)
    return path


def test_the_same_evaluation_goes_on_with_the_missing_episodes_to_the_same_record(
    path: Path,
) -> None:
    whole, all_played = play(None)
    record, numbers = play(path)
    assert len(numbers) == 3
    assert all_played == set(range(6))
    assert record.to_dict() == whole.to_dict()
    assert record.traces == whole.traces


def test_interrupted_again_it_keeps_what_both_played(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        play(path, stop_after=5)
    assert len(play(path)[1]) == 1
    assert play(path)[1] == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"agent_sha256": "cd" * 32},
        {"agent_sha256": None},
        {"settings": resolve_env("MinAtar/Asterix")},
        {"protocol": replace(PROTOCOL, episodes=7)},
        {"protocol": replace(PROTOCOL, epsilon=0.2)},
        {"protocol": replace(PROTOCOL, seed=1)},
        {"protocol": replace(PROTOCOL, max_steps=10_000)},
    ],
    ids=str,
)
def test_episodes_of_another_evaluation_are_not_mixed_in(
    path: Path, changes: dict[str, Any]
) -> None:
    record, numbers = play(path, **changes)
    assert numbers == set(range(record.protocol.episodes))


def test_episodes_played_with_other_packages_are_not_mixed_in(path: Path) -> None:
    path.write_text(path.read_text().replace('"versions": {', '"versions": {"ale-py": "0.1", ', 1))
    assert play(path)[1] == set(range(6))


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines[:1],
        lambda lines: [lines[0], "{", *lines[2:]],
        lambda lines: [lines[0], "3", *lines[2:]],
        lambda lines: [lines[0], lines[1].replace('"length": ', '"length": 1'), *lines[2:]],
        lambda lines: [lines[0], _of_number(lines[1], 9), *lines[2:]],
        lambda lines: [lines[0], _of_number(lines[1], "0"), *lines[2:]],
        lambda lines: ["", *lines],
        lambda lines: ["[" * 10_000, *lines],
    ],
)
def test_damaged_lines_are_played_again(path: Path, damage: Any) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join(damage(lines)) + "\n")
    assert play(path)[1] == set(range(6))


def _of_number(line: str, number: Any) -> str:
    return json.dumps({**json.loads(line), "episode": number})


def test_an_episode_under_the_number_of_another_is_played_again(path: Path) -> None:
    header, first, second, *_ = path.read_text().splitlines()
    swapped = _of_number(first, json.loads(second)["episode"])
    path.write_text(f"{header}\n{swapped}\n")
    assert play(path)[1] == set(range(6))
