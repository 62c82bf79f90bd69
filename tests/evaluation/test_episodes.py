"""episodes.jsonl: what is written is read back, one episode or all, and every change is refused."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sndqn.errors import TraceError
from sndqn.evaluation import Trace, read_episode, read_episodes, write_episodes


@pytest.fixture
def traces(minatar_trace: Trace) -> list[Trace]:
    shorter = replace(
        minatar_trace,
        seed=7,
        actions=minatar_trace.actions[:5],
        rewards=minatar_trace.rewards[:5],
        fingerprints=minatar_trace.fingerprints[:6],
        ended_by="max_steps",
    )
    return [minatar_trace, shorter, replace(minatar_trace, seed=8)]


@pytest.fixture
def path(tmp_path: Path, traces: list[Trace]) -> Path:
    write_episodes(tmp_path / "episodes.jsonl", traces)
    return tmp_path / "episodes.jsonl"


def test_every_episode_is_read_back_alone_and_with_the_others(
    path: Path, traces: list[Trace]
) -> None:
    assert list(read_episodes(path)) == traces
    assert [read_episode(path, number) for number in range(3)] == traces
    again = [trace.to_dict() for trace in read_episodes(path)]
    assert again == [trace.to_dict() for trace in traces]


def test_what_all_share_is_written_once(path: Path, traces: list[Trace]) -> None:
    text = path.read_text()
    assert len(text.splitlines()) == 1 + len(traces)
    for word in ("settings", "versions", "agent_sha256", "epsilon"):
        assert text.count(f'"{word}"') == 1


def test_one_episode_is_read_past_a_damaged_one_before_it(path: Path, traces: list[Trace]) -> None:
    header, _, second, third = path.read_text().splitlines(keepends=True)
    path.write_text(header + "not JSON\n" + second + third)
    assert read_episode(path, 1) == traces[1]
    with pytest.raises(TraceError, match=r"episodes\.jsonl: episode 0: expected JSON"):
        list(read_episodes(path))


def refusal(path: Path, traces: list[Trace]) -> str:
    """Why a file is refused; else its episodes are the ones that were written."""
    try:
        found = list(read_episodes(path))
    except TraceError as error:
        return str(error)
    assert found == traces
    return ""


def test_no_flipped_bit_changes_an_episode(path: Path, traces: list[Trace]) -> None:
    good, draw = path.read_bytes(), random.Random(0)
    for _ in range(300):
        content = bytearray(good)
        content[draw.randrange(len(good))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(content))
        assert "\n" not in refusal(path, traces)


def edited(line: int, change: Callable[[dict[str, object]], object]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        lines = text.splitlines()
        document = json.loads(lines[line])
        change(document)
        lines[line] = json.dumps(document)
        return "\n".join(lines)

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edited(0, lambda d: d.update(epsilon=0.5)), "changed after it was written"),
        (edited(0, lambda d: d.update(agent_sha256="0" * 64)), "changed after it was written"),
        (edited(0, lambda d: d.update(schema="sndqn-trace-1")), "expected schema sndqn-episodes-1"),
        (edited(0, lambda d: d.pop("versions")), "expected the keys"),
        (edited(0, lambda d: d.update(seed=1)), "expected the keys"),
        (edited(1, lambda d: d.update(seed=1)), "changed after it was written"),
        (edited(1, lambda d: d.update(epsilon=0.1)), "the episode's own"),
        (edited(1, lambda d: d.pop("seed")), "missing or unknown"),
        (lambda _: "", "expected JSON"),
        (lambda _: "[]\n[]\n", "expected schema"),
        (lambda text: text.splitlines()[0] + "\n[]\n", "the episode's own"),
        (lambda text: text.splitlines()[0] + "\n\n", "expected JSON"),
    ],
)
def test_an_edited_file_is_refused(path: Path, edit: Callable[[str], str], message: str) -> None:
    path.write_text(edit(path.read_text()))
    with pytest.raises(TraceError, match=message) as refusal:
        list(read_episodes(path))
    assert "\n" not in str(refusal.value)


def test_an_episode_that_is_not_there_a_missing_file_and_a_long_line_are_refused(
    path: Path,
) -> None:
    with pytest.raises(TraceError, match="expected episode 3, found fewer"):
        read_episode(path, 3)
    with pytest.raises(TraceError, match="found none; check the name"):
        read_episode(path.with_name("gone.jsonl"), 0)
    with path.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(TraceError, match="expected lines of at most"):
        read_episode(path, 3)


def test_episodes_of_two_agents_are_no_evaluation(tmp_path: Path, traces: list[Trace]) -> None:
    other = replace(traces[0], agent_sha256="0" * 64)
    with pytest.raises(TraceError, match="of one agent"):
        write_episodes(tmp_path / "episodes.jsonl", [traces[0], other])
    assert not list(tmp_path.iterdir())
