"""Traces of a dozen games, with and without sticky actions, replay elsewhere at full size."""

import subprocess
import sys
from pathlib import Path

import pytest
from recorded_episodes import record

from sndqn.errors import TraceError
from sndqn.evaluation import read_trace, trace_frames, write_trace

GAMES = (
    "Alien", "Asterix", "BeamRider", "Breakout", "Enduro", "Freeway", "MsPacman", "Pong", "Qbert",
    "Seaquest", "SpaceInvaders", "VideoPinball",
)  # fmt: skip

REPLAY = """
import sys
from pathlib import Path
from sndqn.evaluation import read_trace, trace_frames
trace = read_trace(Path(sys.argv[1]))
shapes = {frame.shape for frame in trace_frames(trace, min_height=1)}
print(trace.episode_return, trace.length, shapes)
"""


@pytest.mark.parametrize("sticky", [0.0, 0.25])
@pytest.mark.parametrize(
    "game", [g if g == "Seaquest" else pytest.param(g, marks=pytest.mark.slow) for g in GAMES]
)
def test_a_game_replays_in_another_process_at_full_size_and_an_edit_is_refused(
    game: str, sticky: float, tmp_path: Path
) -> None:
    trace = record(game, sticky_actions=sticky, max_steps=400)
    assert trace.length > 50
    path = tmp_path / "game.trace.json"
    write_trace(path, trace)
    command = [sys.executable, "-c", REPLAY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    score, length, shape = done.stdout.split(maxsplit=2)
    assert (float(score), int(length)) == (trace.episode_return, trace.length)
    assert shape.strip() in ("{(210, 160, 3)}", "{(250, 160, 3)}")
    path.write_bytes(path.read_bytes()[:-20] + b"0" * 20)
    with pytest.raises(TraceError):
        list(trace_frames(read_trace(path)))
