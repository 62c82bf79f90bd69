"""`sndqn train`: what it leaves, what it prints, what it refuses."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sndqn import cli
from sndqn.evaluation import read_episodes
from sndqn.runs.folder import RunFolder

QUICK = ["--total-timesteps", "600", "--learning-starts", "200", "--eval-episodes", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A small finished run."""
    runs = tmp_path_factory.mktemp("runs")
    command = ["train", "--env", "CartPole", "--sn-layers", "-2", "--runs-dir", str(runs), *QUICK]
    assert cli.main(command) == 0
    return RunFolder.open(runs / "CartPole-v1")


def test_a_run_leaves_all_its_files(run: RunFolder) -> None:
    assert sorted(path.name for path in run.path.iterdir() if path.name != "videos") == [
        "0.monitor.csv",
        "agent.safetensors",
        "checkpoints",
        "config.yaml",
        "diagnostics.jsonl",
        "episodes.jsonl",
        "evaluation.json",
        "layers.json",
        "lock",
        "metrics.jsonl",
        "probe.npz",
        "provenance.json",
        "tensorboard",
        "timing.jsonl",
    ]
    assert len(list(read_episodes(run.episodes))) == 2
    assert json.loads(run.provenance.read_text())["versions"]["torch"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "SN on layer -2 (q_net.2): σ is held at 1"),
        (["--sn-layers", "-2,-3"], "SN on layers -3 (q_net.0), -2 (q_net.2): σ is held at 1"),
        (["--config", "c51"], "No layer is normalised"),
        (["--algo", "c51", "--sn-layers", "-2", "--sn-mode", "shrink"], "σ is held at or below 1"),
        (["--sn-bound", "initial"], "σ is held at the σ it starts with"),
        (["--sn-mode", "track", "--sn-scheduler", "mul_eps"], "σ is followed, and nothing normal"),
    ],
)
def test_the_first_lines_say_what_is_normalised(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--total-timesteps", "20", "--learning-starts", "10", "--eval-episodes", "1"]
    tiny += ["--eval-every-timesteps", "0", "--no-keep-best", "--no-tensorboard"]
    command = ["train", "--env", "CartPole", "--runs-dir", str(tmp_path), *tiny, *options]
    assert cli.main(command) == 0
    assert words in "".join(capsys.readouterr().out.splitlines(keepends=True)[:2])


def test_metrics_are_lines_of_json_with_sigma_of_the_normalised_layer(run: RunFolder) -> None:
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert records[-1]["timesteps"] >= 600
    assert records[-1]["sn/q_net.2/sigma"] > 0
    assert "train/loss" in records[-1]


def test_the_table_of_norms_shows_the_bound_held_before_and_after(run: RunFolder) -> None:
    tables = json.loads(run.layers.read_text())
    for when in ("before", "after"):
        held = [row for row in tables[when] if row["bound"] is not None]
        assert [row["index"] for row in held] == [-2]
        assert held[0]["effective"] == pytest.approx(1, rel=0.02)


def test_a_run_is_repeated_by_its_own_configuration(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["train", "--env", "CartPole", "--config", str(run.config), "--runs-dir", str(tmp_path)]
    assert cli.main(again) == 0
    twin = RunFolder.open(tmp_path / "CartPole-v1")
    assert twin.agent.read_bytes() == run.agent.read_bytes()
    assert f"Next: sndqn replay {twin.path}" in capsys.readouterr().out


def test_none_is_no_value_except_where_it_is_a_word_of_the_setting(tmp_path: Path) -> None:
    command = ["train", "--env", "CartPole", "--runs-dir", str(tmp_path), *QUICK]
    command += ["--total-timesteps", "220", "--eval-episodes", "1", "--max-grad-norm", "none"]
    assert cli.main([*command, "--pool", "none", "--sn-layers", "none"]) == 0
    written = RunFolder.open(tmp_path / "CartPole-v1").config.read_text()
    assert "max_grad_norm: null" in written
    assert "pool: null" in written
    assert "sn_layers: none" in written


@pytest.mark.parametrize("form", [["--sn-layers", "-2,-3"], ["--sn-layers=-2,-3"]])
def test_selections_that_begin_with_a_dash_are_values(form: list[str], tmp_path: Path) -> None:
    command = ["train", "--env", "CartPole", "--runs-dir", str(tmp_path), *form, *QUICK]
    assert cli.main([*command, "--eval-episodes", "1"]) == 0
    assert "sn_layers: -2,-3" in RunFolder.open(tmp_path / "CartPole-v1").config.read_text()


def test_an_unwritable_runs_folder_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--env", "CartPole", "--runs-dir", str(tmp_path / "file"), *QUICK])
    assert stop.value.code == 2
    assert "--runs-dir" in capsys.readouterr().err


def test_a_missing_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name.startswith("minatar") else find_spec(name, *rest),
    )
    monkeypatch.setitem(sys.modules, "minatar", None)
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--env", "MinAtar/Breakout", "--runs-dir", str(tmp_path)])
    assert stop.value.code == 2
    assert 'pip install "sndqn[minatar]"' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_saves_the_agent_so_far_and_ends_with_130(tmp_path: Path) -> None:
    """A real process, a real SIGINT."""
    command = [sys.executable, "-m", "sndqn.cli", "train", "--env", "CartPole"]
    command += ["--total-timesteps", "1000000", "--runs-dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics: list[Path] = []
    for _ in range(600):
        metrics = list(tmp_path.glob("CartPole-v1/*/metrics.jsonl"))
        if metrics and metrics[0].stat().st_size:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert (metrics[0].parent / "agent.safetensors").is_file()
    assert cli.main(["evaluate", str(metrics[0].parent), "--episodes", "1"]) == 0
