"""How fast the default trainings are on this machine, in bounded time."""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sndqn.console import roughly
from sndqn.study.machine import Finding

# Small networks first: the larger one takes up to a minute to compile, once.
GAMES = ("CartPole", "MinAtar/Breakout", "Breakout")
SECONDS = 45.0


def measure_speeds(games: tuple[str, ...] = GAMES, seconds: float = SECONDS) -> Iterator[Finding]:
    """Trains some seconds of each game's default run, one after the other.

    In a process of its own, which is ended when the time is over.

    Args:
        games: Environments, as typed.
        seconds: For all of them.

    Yields:
        A finding for each game.
    """
    command = [sys.executable, "-m", "sndqn.study.speeds", *games]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    answers: queue.Queue[str] = queue.Queue()
    until = time.monotonic() + seconds
    with subprocess.Popen(command, stdout=pipe, stderr=nothing, text=True) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, answers), daemon=True)
        reader.start()
        try:
            for game in games:
                yield _finding(game, _next(answers, until))
        finally:
            process.kill()
            reader.join()


def _read(lines: Iterable[str], answers: "queue.Queue[str]") -> None:
    for line in lines:
        answers.put(line)


def _next(answers: "queue.Queue[str]", until: float) -> Any:
    """Returns the next answer; None where there is none in time."""
    try:
        return json.loads(answers.get(timeout=max(until - time.monotonic(), 0)))
    except queue.Empty:
        return None


def measure(games: Sequence[str]) -> None:
    """Prints a line for each game: steps per second and steps, or why there are none, as JSON."""
    from sndqn.errors import SndqnError
    from sndqn.study import trial
    from sndqn.study.design import StudyRun
    from sndqn.training.config_files import layered_config

    for game in games:
        answer: Any
        try:
            settings = layered_config({"env": game}, None).model_dump()
            rate = trial.measure(StudyRun(game, game, "default", 0, settings))
            answer = [rate, settings["total_timesteps"]]
        except (SndqnError, MemoryError) as error:
            answer = str(error)
        print(json.dumps(answer), flush=True)


def _finding(game: str, found: Any) -> Finding:
    if found is None:
        return Finding(
            f"{game.partition('/')[0]}",
            "note",
            f"the default run of {game} was not measured in the time there is",
            f"To measure it by itself: sndqn sweep trial --env {game} --dry-run",
            {"game": game},
        )
    if isinstance(found, str):
        return Finding(game.partition("/")[0], "note", f"{game}: {found}", data={"game": game})
    rate, total = found
    hours = total / rate / 3600
    text = f"{game}: {rate:,.0f} steps/s, so its default run of {total:,} steps takes about "
    return Finding(
        game.partition("/")[0],
        "ok",
        text + roughly(total / rate),
        data={"game": game, "steps_per_second": rate, "total_timesteps": total, "hours": hours},
    )


if __name__ == "__main__":
    measure(sys.argv[1:])
