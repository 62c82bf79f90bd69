"""`sndqn watch`: who plays, in a window that draws into memory."""

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from refusals import refusal

from sndqn import cli
from sndqn.agents.evaluations import read_evaluation
from sndqn.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def unseen_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


def test_the_games_watched_are_those_of_the_evaluation(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_evaluation(run)
    assert record is not None
    assert cli.main(["watch", str(run.path), "--games", "2", "--speed", "64"]) == 0
    out = capsys.readouterr().out
    for number, episode in enumerate(record.episodes, 1):
        assert f"game {number}: return {episode.episode_return:g}, {episode.length} steps" in out
    assert "after 600 of 600 steps" in out


def test_an_agent_file_is_watched_with_its_games_changed(
    agent_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["watch", str(agent_file), "--games=1", "--speed=64", "--seed=7", "--epsilon=0.5"]
    assert cli.main([*command, "--no-values"]) == 0
    first = capsys.readouterr().out
    assert cli.main(command) == 0
    assert capsys.readouterr().out == first
    assert "after 600 steps" in first
    assert list(agent_file.parent.iterdir()) == [agent_file]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["CartPole"], "CartPole/sn plays"),
        (["MinAtar/Breakout"], "MinAtar/Breakout/sn plays"),
        (["MinAtar/Freeway"], "none ships for this: random actions in MinAtar/Freeway"),
        (["CartPole", "--env-kwargs", "{sutton_barto_reward: true}"], "random actions in CartPole"),
    ],
)
def test_an_environments_shipped_agent_plays_and_else_chance(
    typed: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["watch", *typed, "--games", "1", "--speed", "64"]) == 0
    out = capsys.readouterr().out
    assert told in out
    assert "game 1: return" in out


@pytest.mark.usefixtures("no_display")
def test_without_a_display_one_line_says_what_to_type(
    run: RunFolder, agent_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, remedy in (
        (str(run.path), f"Type sndqn replay {run.path} for a video"),
        (str(agent_file), f"Type sndqn evaluate {agent_file}: its last line makes a video"),
        ("CartPole", "Type sndqn replay CartPole/sn for a video"),
        ("MinAtar/Freeway", "Type sndqn train --env MinAtar/Freeway: its last line makes a video"),
    ):
        error = refusal(["watch", given], capsys)
        assert len(error.splitlines()) == 1
        assert "expected a display for the window, found none" in error
        assert remedy in error


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["no/such/run"], "an agent file, a zip of Stable-Baselines3"),
        (["CartPole/sn", "--games", "0"], "expected games of at least 1, found 0"),
        (["CartPole/sn", "--speed", "0"], "expected speed from 0.0625 to 64, found 0"),
        (["CartPole/sn", "--speed", "nan"], "expected speed from"),
        (["CartPole/sn", "--epsilon", "2"], "expected epsilon from 0 to 1"),
        (["CartPole/sn", "--sha256", "0" * 64], "expected SHA-256"),
        (["CartPole/sn", "--env", "CartPole"], "which says it itself: leave it out"),
        (["CartPole", "--v-min", "3"], "--v-min: expected an agent with it, found the environment"),
        (["Breakout", "--protocol", "minatar"], "has no protocol 'minatar'"),
    ],
)
def test_what_cannot_be_watched_is_refused(
    typed: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refusal(["watch", *typed], capsys)


def test_of_several_tasks_one_is_asked_for(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = tmp_path / "both"
    both.mkdir()
    (both / "tasks.yaml").write_text("env: MinAtar/Breakout,MinAtar/Asterix\n")
    for name in ("MinAtar-Breakout", "MinAtar-Asterix"):
        shutil.copytree(run.path, both / name)
    error = refusal(["watch", str(both)], capsys)
    assert error.endswith(f"type one of {both}/MinAtar-Asterix, {both}/MinAtar-Breakout\n")
    assert len(error.splitlines()) == 1
    assert cli.main(["watch", f"{both}/MinAtar-Asterix", "--games=1", "--speed=64"]) == 0


def test_ctrl_c_ends_it_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    ending = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT))
    ending.start()
    try:
        assert cli.main(["watch", "CartPole/sn"]) == 130
    finally:
        ending.cancel()
    import pygame

    assert not pygame.display.get_init()
    assert capsys.readouterr().err == "sndqn: stopped by Ctrl-C\n"
