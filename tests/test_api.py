"""From Python: what the commands do, one call each."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doc_blocks import short

import sndqn
from sndqn import api
from sndqn.errors import ConfigError, RunFolderError

SHORT = {
    "total_timesteps": 600,
    "learning_starts": 100,
    "eval_episodes": 2,
    "eval_max_steps": 60,
    "tensorboard": False,
    "verbose": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    runs = str(tmp_path_factory.mktemp("runs"))
    return sndqn.train("CartPole", sn_layers="-2", runs_dir=runs, **SHORT)


def test_a_training_is_one_call_and_its_run_has_what_the_command_leaves(run: api.Run) -> None:
    assert run.evaluation is not None
    assert run.evaluation.mean == np.mean(run.evaluation.returns)
    assert run.config.sn_layers == "-2"
    assert run.metrics()[-1]["timesteps"] == 600
    (measured,) = run.diagnostics()
    assert measured["timesteps"] == 600
    assert measured["layers"]["q_net.2"]["sigma_effective"] == pytest.approx(1.0, abs=0.02)
    assert run.tasks == {}
    assert (run.path / "agent.safetensors").is_file()


def test_an_agent_acts_by_its_q_values_and_is_measured(run: api.Run) -> None:
    agent = run.agent
    observation = np.zeros(4, np.float32)
    assert agent.act(observation) == int(np.argmax(agent.q_values(observation)))
    rows = {row.index: row for row in agent.layers()}
    assert rows[-2].effective == pytest.approx(1.0, abs=0.02)
    assert rows[-1].bound is None


def test_evaluating_writes_nothing_and_repeats_itself(run: api.Run) -> None:
    before = sorted(run.path.rglob("*"))
    first, second = (run.agent.evaluate(episodes=2, seed=7, max_steps=40) for _ in range(2))
    assert first.to_dict() == second.to_dict()
    assert sorted(run.path.rglob("*")) == before
    with pytest.raises(ConfigError, match="expected episodes, epsilon"):
        run.agent.evaluate(games=3)


@pytest.mark.parametrize("game", [{}, {"episode": 1}, {"seed": 3, "values": True}])
def test_a_game_is_replayed_or_a_new_one_played_into_a_video(
    run: api.Run, tmp_path: Path, game: dict[str, Any]
) -> None:
    file = run.agent.replay(tmp_path / "a.mp4", **game)
    assert file.read_bytes()[4:8] == b"ftyp"


def test_two_agents_play_one_seed_into_a_video(run: api.Run, tmp_path: Path) -> None:
    other = sndqn.load("CartPole/plain")
    file = run.agent.replay(tmp_path / "a.gif", seed=3, values=True, side_by_side=other)
    assert file.read_bytes().startswith(b"GIF89a")
    with pytest.raises(ConfigError, match="expected two agents of one environment"):
        run.agent.replay(tmp_path / "b.mp4", side_by_side=sndqn.load("MinAtar/Breakout/sn"))
    assert not (tmp_path / "b.mp4").exists()


def test_games_are_watched_after_a_video_was_made_unseen(
    run: api.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    run.agent.replay(tmp_path / "a.mp4")
    with pytest.raises(ConfigError, match="expected a display for the window, found none"):
        run.agent.watch()
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    run.agent.watch(games=2, speed=64, values=False)
    assert run.evaluation is not None
    out = capsys.readouterr().out
    for number, episode_return in enumerate(run.evaluation.returns, 1):
        assert f"game {number}: return {episode_return:g}" in out
    with pytest.raises(ConfigError, match="expected speed"):
        run.agent.watch(speed=1000)


def test_an_agent_file_alone_is_loaded_and_says_what_it_has_no_game_of(
    run: api.Run, tmp_path: Path
) -> None:
    file = run.agent.export(tmp_path / "mine.safetensors")
    agent = sndqn.load(file, sha256=run.agent.sha256)
    assert agent.evaluation is None
    with pytest.raises(RunFolderError, match="sndqn evaluate"):
        agent.replay(tmp_path / "a.mp4")
    with pytest.raises(ConfigError, match=r"expected a file called \.safetensors"):
        agent.export(tmp_path / "mine.pt")


def test_several_tasks_are_runs_of_their_own(tmp_path: Path) -> None:
    names = "MinAtar/Breakout,MinAtar/Freeway"
    run = sndqn.train(names, runs_dir=str(tmp_path), **{**SHORT, "eval_max_steps": 20})
    assert list(run.tasks) == names.split(",")
    assert all(task.evaluation is not None for task in run.tasks.values())


def test_a_wrong_setting_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean sn_layers"):
        sndqn.train("CartPole", sn_layer="-2", runs_dir=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_the_example_of_the_docstring_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, _, indented = str(api.__doc__).partition(":\n\n")
    names = {"sndqn": sndqn, "observation": np.zeros(4, np.float32)}
    exec(short(textwrap.dedent(indented)), names)  # noqa: S102
