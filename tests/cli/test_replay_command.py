"""`sndqn replay`: episodes are proved, drawn, and written by themselves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from refusals import refusal

from sndqn import cli
from sndqn.agents.episodes import find_episode, game_beside
from sndqn.agents.evaluations import write_evaluation
from sndqn.agents.find import find_agent
from sndqn.errors import TraceError
from sndqn.evaluation import (
    EpisodeResult,
    EvaluationProtocol,
    EvaluationRecord,
    Trace,
    read_episode,
    read_trace,
    replay_trace,
    write_episodes,
)
from sndqn.runs.folder import RunFolder


def test_replay_writes_a_video_with_a_frame_per_step(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["replay", str(run.path), "--episode", "0", "--values"]) == 0
    trace = read_episode(run.episodes, 0)
    out = capsys.readouterr().out
    assert f"{trace.length + 1} frames" in out
    assert (run.videos / "episode-000-values.mp4").stat().st_size > 1000


def test_replay_writes_a_gif_and_a_poster_beside_it(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "new" / "game.gif"
    assert cli.main(["replay", str(run.path), "--output", str(path), "--poster"]) == 0
    assert path.read_bytes().startswith(b"GIF89a")
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_best_of_equal_episodes_is_the_shortest(run: RunFolder) -> None:
    trace = read_episode(run.episodes, 0)
    assert trace.length > 6
    still = [_cut(trace, length) for length in (6, 4, 5)]
    file = run.path / "still.jsonl"
    write_episodes(file, still)
    assert find_episode(str(file), "best").trace == still[1]
    record = EvaluationRecord(
        protocol=EvaluationProtocol(episodes=3),
        settings=trace.settings,
        episodes=tuple(EpisodeResult.from_trace(each) for each in still),
        traces=tuple(still),
    )
    seeded = [
        replace(each, seed=record.protocol.episode_seed(number))
        for number, each in enumerate(record.episodes)
    ]
    write_evaluation(run, replace(record, episodes=tuple(seeded)))
    assert find_episode(str(run.path), "best").name == "episode-001"


def _cut(trace: Trace, length: int) -> Trace:
    """The first steps of an episode, without rewards."""
    return replace(
        trace,
        actions=trace.actions[:length],
        rewards=0 * trace.rewards[:length],
        fingerprints=trace.fingerprints[: length + 1],
        ended_by="max_steps",
    )


def test_a_changed_action_is_refused(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = read_episode(run.episodes, 0)
    actions = trace.actions.copy()
    actions[3] = 1 - actions[3]
    forged = type(trace)(
        **{name: getattr(trace, name) for name in trace.__dataclass_fields__} | {"actions": actions}
    )
    with pytest.raises(TraceError, match="step"):
        list(replay_trace(forged))
    path = tmp_path / "edited.trace.json"
    content = trace.to_dict()
    content["seed"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as stop:
        cli.main(["replay", str(path)])
    assert stop.value.code == 2
    assert "changed after it was written" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.mp4"))


def test_one_episode_is_written_as_a_trace_of_its_own_once_it_is_proved(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.trace.json"
    command = ["replay", str(run.path), "--episode", "1", "--output", str(path)]
    assert cli.main(command) == 0
    assert "replayed exactly" in capsys.readouterr().out
    assert read_trace(path) == read_episode(run.episodes, 1)
    path.unlink()
    run.episodes.write_text(
        run.episodes.read_text().replace('"versions":{', '"versions":{"x":"1",')
    )
    assert "changed after it was written" in refusal(command, capsys)
    assert not path.exists()


@pytest.mark.parametrize("episode", ["2", "-1", "last", "1" * 20])
def test_an_episode_that_is_none_is_refused(
    run: RunFolder, episode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in (str(run.path), str(run.episodes)):
        assert "expected " in refusal(["replay", given, f"--episode={episode}"], capsys)


def test_two_agents_games_of_one_seed_are_one_video(
    run: RunFolder, agent_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The second agent, a file by itself, has no evaluation: it plays the game now.
    path = tmp_path / "two.webm"
    command = ["replay", str(run.path), "--episode", "1", "--side-by-side", str(agent_file)]
    assert cli.main([*command, "--values", "--poster", "--output", str(path)]) == 0
    trace = read_episode(run.episodes, 1)
    out = capsys.readouterr().out
    proved = f"return {trace.episode_return:g} in {trace.length} steps, replayed exactly"
    assert f"episode-001 of its own evaluation: {proved}" in out
    assert f"seed-{trace.seed} of cart, played now: {proved}" in out
    assert out.count("values: ") == 2
    assert path.read_bytes().startswith(b"\x1a\x45\xdf\xa3")
    assert path.with_suffix(".png").is_file()


def test_the_game_beside_is_the_recorded_one_of_the_same_seed(run: RunFolder) -> None:
    for number in range(2):
        trace = read_episode(run.episodes, number)
        beside = game_beside(find_agent(str(run.path)), trace)
        assert (beside.trace, beside.name) == (trace, f"episode-00{number}")


def test_a_game_played_now_is_that_of_an_evaluation(run: RunFolder, agent_file: Path) -> None:
    trace = read_episode(run.episodes, 0)
    counted: list[tuple[int, int]] = []
    played = game_beside(
        find_agent(str(agent_file)), trace, on_step=lambda *step: counted.append(step)
    )
    assert played.trace == trace
    assert counted == [(0, step) for step in range(trace.length + 1)]


def test_agents_of_two_environments_are_refused_side_by_side(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(run.path.rglob("*"))
    command = ["replay", str(run.path), "--side-by-side", "MinAtar/Breakout/sn"]
    assert "expected two agents of one environment, found suite" in refusal(command, capsys)
    command = ["replay", str(run.path), "--side-by-side", str(run.path)]
    error = refusal([*command, "--output", "a.trace.json"], capsys)
    assert "a trace is of one game" in error
    assert sorted(run.path.rglob("*")) == before
