"""metrics.jsonl: every line is JSON, whatever was logged."""

import json
from pathlib import Path

import numpy as np
import pytest

from sndqn.errors import RunFolderError
from sndqn.runs.metrics import make_logger, truncate


def test_numbers_are_written_and_divergence_is_seen(tmp_path: Path) -> None:
    logger = make_logger(tmp_path / "metrics.jsonl", None)
    logger.record("train/loss", np.float32(0.5))
    logger.record("train/q_max", float("inf"))
    logger.record("note", "words")
    logger.dump(7)
    logger.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["timesteps"] == 7
    assert record["train/loss"] == 0.5
    assert record["train/q_max"] == "inf"
    assert "note" not in record


def test_tensorboard_gets_the_same(tmp_path: Path) -> None:
    logger = make_logger(tmp_path / "metrics.jsonl", tmp_path / "tensorboard")
    logger.record("a", 1.0)
    logger.dump(1)
    logger.close()
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_cutting_keeps_exactly_what_stood_there_at_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"timesteps": 1}\n{"timesteps": 2}\n')
    truncate(path, 17)
    assert path.read_bytes() == b'{"timesteps": 1}\n'
    truncate(path, 17)
    assert path.read_bytes() == b'{"timesteps": 1}\n'
    truncate(path, 0)
    assert path.read_bytes() == b""


def test_after_a_cut_the_logger_goes_on_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2):
        logger = make_logger(path, None)
        logger.dump(step)
        logger.close()
    first = path.read_text().splitlines(keepends=True)[0]
    truncate(path, len(first))
    logger = make_logger(path, None)
    logger.dump(3)
    logger.close()
    lines = path.read_text().splitlines(keepends=True)
    assert lines[0] == first
    assert [json.loads(line)["timesteps"] for line in lines] == [1, 3]


def test_a_file_that_lost_lines_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"12345")
    with pytest.raises(
        RunFolderError, match=r"metrics.jsonl: expected the 6 bytes .* found 5: put"
    ):
        truncate(path, 6)
    assert path.read_bytes() == b"12345"


@pytest.mark.parametrize("name", ["missing.jsonl", "folder"])
def test_what_is_no_metrics_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunFolderError, match=f"cannot cut .*{name} to 0 bytes"):
        truncate(tmp_path / name, 0)
