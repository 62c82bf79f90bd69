"""Makes the runs of stage A of the evidence, one after the other; docs/evidence/plan.md has why.

    nice -n 10 env OMP_NUM_THREADS=1 python scripts/stage_a.py

Each run is one `sndqn train`, in runs/stage-a. Finished runs are passed over and an interrupted one
is resumed, so the same command goes on wherever SIGTERM or Ctrl-C ended it. A finished run leaves
its settings, provenance, curve and evaluation in docs/evidence/stage-a, one JSON file each.
"""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "evidence" / "stage-a"
CURVE_EVERY_TIMESTEPS = 5_000


class Run(NamedTuple):
    """One training: a preset on a game, with the settings that differ from the preset's."""

    env: str
    config: str
    seed: int
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Names the run's folder and its file."""
        game = self.env if "/" in self.env else f"atari/{self.env}"
        return f"{game.lower().replace('/', '-')}-seed{self.seed}"

    def command(self) -> list[str]:
        """Gives the command that makes it."""
        length = ("--total-timesteps", "1000000", "--threads", "1", "--no-tensorboard")
        seed = ("--seed", str(self.seed), "--runs-dir", f"runs/stage-a/{self.name}")
        named = ("--env", self.env, "--config", self.config)
        return ["train", *named, *self.flags, *length, *seed]


# MinAtar's at the step size that was best for the game, as in the published curves.
GAMES = (
    ("MinAtar/Breakout", "young-tian", ("--learning-rate", str(2**-9))),
    ("MinAtar/Asterix", "young-tian", ("--learning-rate", str(2**-13))),
    ("MinAtar/SpaceInvaders", "young-tian", ("--learning-rate", str(2**-12))),
    ("Breakout", "dopamine-dqn-adam", ()),
    ("SpaceInvaders", "dopamine-dqn-adam", ()),
)
# All seeds of MinAtar first; a seed of each game before the next, so that a part is balanced.
RUNS = [
    Run(env, config, seed, flags)
    for games in (GAMES[:3], GAMES[3:])
    for seed in range(3)
    for env, config, flags in games
]


def main() -> None:
    """Makes what is missing, until all is there or a signal comes."""
    if git("status", "--porcelain", "--untracked-files=no"):
        raise SystemExit("stage_a.py: commit first: a run's commit must say what it was made with")
    queue = Queue()
    for run in RUNS:
        result = RESULTS / f"{run.name}.json"
        if result.is_file():
            continue
        queue.train(run)
        write_result(run, result)


class Queue:
    """Runs `sndqn`, and passes on the signal that ends both."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopped = True
        if self.child is not None:
            self.child.terminate()

    def train(self, run: Run) -> None:
        """Trains, or goes on training, to the end."""
        home = ROOT / "runs" / "stage-a" / run.name
        home.mkdir(parents=True, exist_ok=True)
        command, folder = run.command(), folder_of(run)
        if folder is None:
            (home / "commit").write_text(git("rev-parse", "HEAD"))
        elif "finished" in json.loads((folder / "provenance.json").read_text()):
            return
        else:
            command = ["train", "--resume", str(folder.relative_to(ROOT))]
        program = str(Path(sys.executable).parent / "sndqn")
        with (home / "output.txt").open("ab") as output:
            # A session of its own: Ctrl-C reaches all of a terminal's processes, and a training
            # that is stopped twice ends without saving.
            self.child = subprocess.Popen(
                [program, *command],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            status = self.child.wait()
        if self.stopped:
            raise SystemExit(f"stage_a.py: stopped in {run.name}; the same command goes on")
        if status:
            raise SystemExit(f"stage_a.py: {run.name} ended with {status}: see {home}/output.txt")


def folder_of(run: Run) -> Path | None:
    """Finds the run's folder, None where there is none yet."""
    found = sorted((ROOT / "runs" / "stage-a" / run.name).glob("*/*/config.yaml"))
    return found[-1].parent if found else None


def write_result(run: Run, path: Path) -> None:
    """Writes what the evidence needs of a finished run."""
    folder = folder_of(run)
    assert folder is not None
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    kept = [
        record
        for record in records
        if record["timesteps"] % CURVE_EVERY_TIMESTEPS == 0 and "rollout/ep_rew_mean" in record
    ]
    evaluation = json.loads((folder / "evaluation.json").read_text())
    last_clock = (folder / "timing.jsonl").read_text().splitlines()[-1]
    result: dict[str, Any] = {
        "env": run.env,
        "config": run.config,
        "seed": run.seed,
        "command": " ".join(["sndqn", *run.command()]),
        "commit": (folder.parent.parent / "commit").read_text(),
        "provenance": json.loads((folder / "provenance.json").read_text()),
        "settings": yaml.safe_load((folder / "config.yaml").read_text()),
        "seconds": json.loads(last_clock)["seconds"],
        "curve": {  # the mean return of the last 100 games of training, and games ended so far
            "timesteps": [record["timesteps"] for record in kept],
            "mean_return": [record["rollout/ep_rew_mean"] for record in kept],
            "games": [record["time/episodes"] for record in kept],
        },
        "evaluation": {
            "protocol": evaluation["protocol"],
            "returns": [episode["episode_return"] for episode in evaluation["episodes"]],
            "lengths": [episode["length"] for episode in evaluation["episodes"]],
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    # A list of numbers takes a line, not a line for each.
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda match: " ".join(match.group().split()), text)
    path.write_text(text + "\n")


def git(*arguments: str) -> str:
    """Asks git about this repository."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
