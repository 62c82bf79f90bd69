"""A Slurm of one node, of Debian's packages, in a folder of its own; it needs root."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "sinfo", "scontrol")

_CONFIG = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmctldPort={port}
SlurmdPort={next_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def can_be_started() -> bool:
    """Returns whether this machine has what it needs."""
    return os.geteuid() == 0 and all(map(shutil.which, PROGRAMS))


class Slurm:
    """A cluster under way: `with Slurm(folder) as slurm:`.

    Args:
        folder: For its files; of a short path, since a socket's is short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> "Slurm":
        """Starts it, and waits for its node."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o400)
        port = _free_port()
        config = _CONFIG.format(
            host=socket.gethostname().partition(".")[0], folder=self.folder, port=port,
            next_port=port + 1,
        )  # fmt: skip
        (self.folder / "slurm.conf").write_text(config)
        files = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid",
                 "log-file": "munged.log", "seed-file": "munge.seed"}  # fmt: skip
        self.call("munged", "--force", *(f"--{k}={self.folder / v}" for k, v in files.items()))
        self.call("slurmctld", "-c")
        self.call("slurmd", "-c")
        for _ in range(300):
            if "idle" in self.call("sinfo", "-h", "-o", "%T"):
                return self
            time.sleep(0.1)
        raise RuntimeError((self.folder / "slurmctld.log").read_text())

    def __exit__(self, *_: object) -> None:
        """Ends all jobs and its three programs."""
        self.call("scancel", "--user=root", "--signal=KILL", "--full")
        for name in ("slurmd.pid", "slurmctld.pid", "munged.pid"):
            file = self.folder / name
            if file.is_file():
                pid = int(file.read_text())
                os.kill(pid, signal.SIGTERM)
                while Path(f"/proc/{pid}").is_dir():
                    time.sleep(0.05)

    def call(self, *command: str) -> str:
        """Runs one of its programs and returns what it prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout + done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
