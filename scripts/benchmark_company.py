"""Times `sndqn train` on a quiet machine and beside one busy process.

    python scripts/benchmark_company.py --output docs/data/benchmark-company.json
    python scripts/benchmark_company.py --code . ../before       # two checkouts, by turns

Each training starts as typed at the shell, with threads as they come. Once it makes updates, steps
are counted for some seconds; then it is ended. The busy process is a loop of Python's, pinned
nowhere.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from needs import need

from sndqn.runs.folder import provenance

ENVS = ("CartPole", "MinAtar/Breakout", "Breakout")
FLAGS = ["--no-tensorboard", "--learning-starts", "1000", "--checkpoint-every-timesteps", "0"]
EVERY = {"CartPole": 1000, "MinAtar/Breakout": 1000, "Breakout": 200}


def records(folder: str) -> list[dict[str, float]]:
    """The clock's records of the run in a folder, oldest first."""
    lines = [line for path in Path(folder).rglob("timing.jsonl") for line in path.open()]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def steps_per_second(code: str, env: str, busy: bool, seconds: float, flags: list[str]) -> float:
    """Trains for a while in a fresh folder; gives the rate once updates are made."""
    company = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    with tempfile.TemporaryDirectory() as folder:
        every = ["--log-every-timesteps", str(EVERY[env])]
        command = [sys.executable, "-m", "sndqn.cli", "train", "--env", env, *FLAGS, *every, *flags]
        environment = {**os.environ, "PYTHONPATH": str(Path(code).resolve())}
        training = subprocess.Popen(
            [*command, "--runs-dir", folder],
            cwd=code,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            begun = time.monotonic()
            # From the second record with updates on: the first may hold what is compiled once.
            while len([r for r in records(folder) if r["timesteps"] > 2000]) < 2:
                if training.poll() is not None or time.monotonic() - begun > 300:
                    raise SystemExit(f"{' '.join(command)} made no updates")
                time.sleep(0.2)
            first = records(folder)[-1]
            time.sleep(seconds)
            last = records(folder)[-1]
        finally:
            for process in [training, *company]:
                process.send_signal(signal.SIGKILL)
                process.wait()
    return (last["timesteps"] - first["timesteps"]) / max(last["seconds"] - first["seconds"], 1e-9)


def main() -> None:
    """Measures by turns, and prints a line for each pair of a quiet and a busy training."""
    parser = argparse.ArgumentParser(description="Times training alone and beside a busy process.")
    parser.add_argument("--env", nargs="+", default=list(ENVS), choices=ENVS)
    parser.add_argument("--code", nargs="+", default=["."], help="checkouts to compare")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--flags", nargs="*", default=[], help="more of `sndqn train`, quoted")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    need("minatar", output=options.output)
    flags = [word for flag in options.flags for word in flag.split()]
    rows = []
    for _ in range(options.rounds):
        for env in options.env:
            for index, code in enumerate(options.code):
                alone, beside = (
                    steps_per_second(code, env, busy, options.seconds, flags)
                    for busy in (False, True)
                )
                row = {"env": env, "code": index, "alone": round(alone), "beside": round(beside)}
                rows.append(row)
                print(f"{env} {code}: {alone:.0f} alone, {beside:.0f} beside", flush=True)
    if options.output:
        about = {"command": " ".join(["python", *sys.argv]), "provenance": provenance()}
        options.output.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
