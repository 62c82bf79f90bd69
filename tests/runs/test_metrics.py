"""metrics.jsonl: every line is JSON, whatever was logged."""

import json
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.results_plotter import load_results
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sndqn.errors import RunFolderError
from sndqn.runs.metrics import (
    MetricsPaths,
    MetricsWriter,
    make_logger,
    rebuild_tensorboard,
    truncate,
)


def paths(folder: Path, tensorboard: bool = False) -> MetricsPaths:
    events = folder / "tensorboard" if tensorboard else None
    return MetricsPaths(folder / "metrics.jsonl", folder / "timing.jsonl", events)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads, by name: steps and values."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_numbers_are_written_and_divergence_is_seen(tmp_path: Path) -> None:
    logger = make_logger(paths(tmp_path))
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


def test_tensorboard_gets_the_same_and_is_made_anew_from_the_record(tmp_path: Path) -> None:
    logger = make_logger(paths(tmp_path, tensorboard=True))
    for step in (1, 2):
        logger.record("a", 0.5 * step)
        logger.record("time/fps", 100)
        logger.dump(step)
    logger.close()
    written = scalars(tmp_path / "tensorboard")
    assert written == {"a": [(1, 0.5), (2, 1.0)], "time/fps": [(1, 100.0), (2, 100.0)]}
    assert rebuild_tensorboard(*paths(tmp_path)[:2], tmp_path / "tensorboard") == 2
    assert scalars(tmp_path / "tensorboard") == written
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_metrics_hold_nothing_of_the_clock_which_goes_on_where_it_was(tmp_path: Path) -> None:
    logger = make_logger(paths(tmp_path))
    logger.record("time/time_elapsed", 3.0)
    logger.dump(1)
    logger.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"timesteps": 1}\n'
    (tmp_path / "timing.jsonl").write_text('{"timesteps": 1, "seconds": 50.0}\n')
    logger = make_logger(paths(tmp_path))
    logger.dump(2)
    logger.close()
    last = json.loads((tmp_path / "timing.jsonl").read_text().splitlines()[-1])
    assert 50 <= last["seconds"] < 100


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
        logger = make_logger(paths(tmp_path))
        logger.dump(step)
        logger.close()
    first = path.read_text().splitlines(keepends=True)[0]
    truncate(path, len(first))
    logger = make_logger(paths(tmp_path))
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


def test_stable_baselines3_reads_the_games_of_a_training_and_its_resumption(tmp_path: Path) -> None:
    files = paths(tmp_path)._replace(games=tmp_path / "0.monitor.csv")
    for total, length in ((1.5, 10), (-3.0, 20)):
        logger = make_logger(files)
        writer = logger.output_formats[0]
        assert isinstance(writer, MetricsWriter)
        writer.write_game(total, length, 2 * length)
        assert writer.lengths()["0.monitor.csv"] == (tmp_path / "0.monitor.csv").stat().st_size
        logger.close()
    games = load_results(str(tmp_path)).sort_values("timesteps")
    assert games["r"].tolist() == [1.5, -3.0]
    assert games["l"].tolist() == [10, 20]
    assert games["timesteps"].tolist() == [20, 40]
