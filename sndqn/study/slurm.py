"""A study on a Slurm cluster: an array of tasks, each of which makes what it finds to make.

A task is `sndqn sweep STUDY --jobs 1 --no-wait`: it claims a run by its lock, on the disk that the
nodes share, then the next one. Ahead of its time limit a task gets SIGUSR1, saves the run and is
queued again; after a preemption or a node's failure Slurm itself queues it again.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sndqn.errors import ConfigError
from sndqn.files import write_text
from sndqn.study.folder import Study
from sndqn.training.signals import STOPPED_AHEAD

_MAX_TASKS = 1000  # what an array holds where nobody has changed it

_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=1-{n_tasks}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={output}
#SBATCH --signal=USR1@120
# The signal, two minutes ahead of the time limit, goes to what srun starts, not to this shell.
cd {here} || exit 1
srun --ntasks=1 {command}
status=$?
# Stopped ahead of the limit, all saved: again to the queue.
[ $status = {stopped} ] && exec scontrol requeue "$SLURM_JOB_ID"
exit $status
"""


def submit(
    study: Study, options: str, n_tasks: int | None, cpus: int, code: Sequence[str]
) -> list[str]:
    """Writes the study's script for Slurm and submits it.

    Args:
        study: The study.
        options: Of sbatch, as one would type them; they win over the script's.
        n_tasks: Runs at a time; None for as many as are to be made.
        cpus: CPUs of a run.
        code: Options that name code, for the runs.

    Returns:
        What to tell: the job, and how to follow and to cancel it.

    Raises:
        ConfigError: There is no Slurm, or it refuses.
    """
    n_left = sum(study.status(run) not in ("done", "failed") for run in study.runs)
    if not n_left:
        return ["Nothing is left to make"]
    program = shutil.which("sbatch")
    if program is None:
        raise ConfigError("--slurm: expected Slurm's sbatch on this machine, found none")
    path = study.path.absolute()
    command = [sys.executable, "-m", "sndqn.cli", "sweep", str(path), "--jobs", "1", "--no-wait"]
    script = _SCRIPT.format(
        name=shlex.quote(f"sndqn-{path.name}"),
        n_tasks=min(n_tasks or _MAX_TASKS, n_left, _MAX_TASKS),
        cpus=cpus,
        output=_quoted(path / "slurm-%A_%a.txt"),
        here=shlex.quote(str(Path.cwd())),
        command=shlex.join([*command, *code]),
        stopped=STOPPED_AHEAD,
    )
    file = path / "slurm.sh"
    write_text(file, script)
    done = subprocess.run(
        [program, "--parsable", *shlex.split(options), str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ConfigError(f"--slurm: sbatch refuses: {' '.join(done.stderr.split())}")
    job = done.stdout.strip().partition(";")[0]
    return [
        f"Submitted job {job} of {min(n_tasks or _MAX_TASKS, n_left, _MAX_TASKS)} tasks: {file}",
        f"To follow it: sndqn runs {study.path}. To cancel it: scancel {job}, all is saved",
    ]


def _quoted(path: Path) -> str:
    """Writes a path for a line of #SBATCH, where a blank ends a word."""
    return f'"{path}"'
