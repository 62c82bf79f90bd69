"""A study on a real Ray cluster: the processes of two nodes, on this machine."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from sweeps import CARTPOLE, SMALL, kill, outcome, start_sweep, wait_until, workers, write_study

from sndqn.study.folder import Study
from sndqn.training.config import make_config
from sndqn.training.run import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'sndqn[ray]'"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Starts a cluster of two nodes with a CPU each, and gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = f"127.0.0.1:{probe.getsockname()[1]}"
    place = ["--head", f"--port={found.rpartition(':')[2]}", "--include-dashboard=false"]
    nodes = [start_node(*place)]
    wait_until(lambda: ray_answers(found))
    nodes.append(start_node(f"--address={found}"))
    wait_until(lambda: ray_answers(found, n_nodes=2))
    yield found
    for node in reversed(nodes):
        node.send_signal(signal.SIGTERM)  # each ends what it started
        node.wait(60)


def start_node(*arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    return subprocess.Popen(
        [*command, "--object-store-memory=100000000", "--disable-usage-stats", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def ray_answers(address: str, n_nodes: int = 1) -> bool:
    code = f"import ray; ray.init(address={address!r}); print(len(ray.nodes()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == str(n_nodes)


def parent_of(pid: int) -> int:
    """Gives the process that started one: of a run's, Ray's worker."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_study_on_ray_survives_ctrl_c_and_a_dead_worker_with_the_same_numbers(
    address: str, tmp_path: Path
) -> None:
    design = {**CARTPOLE, "settings": {**SMALL, "total_timesteps": 6000}}
    path, file = tmp_path / "study", write_study(tmp_path / "s.yaml", design)
    driver = start_sweep(path, "--study", file, "--ray", address)
    wait_until((path / "study.yaml").is_file)
    study = Study.open(path)

    def checkpointed(index: int) -> bool:
        folder = study.folder(study.runs[index]).path
        return any(folder.glob("checkpoints/step-*"))

    wait_until(lambda: checkpointed(0) and checkpointed(1))
    assert len(workers(study)) == 2, "a run on each node"
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, output
    assert not workers(study)
    for run in study.runs:
        said = (study.folder(run).path / "output.txt").read_text()
        assert "The agent so far is saved" in said

    driver = start_sweep(path, "--ray", address)
    (first, *_) = wait_until(lambda: list(workers(study).values()))
    kill(parent_of(first))
    output, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, output
    for run in study.runs:
        plain = train(make_config({**run.settings, "runs_dir": str(tmp_path / "plain")}))
        assert outcome(study.folder(run)) == outcome(plain)


def test_where_no_cluster_answers_a_sentence_says_so(tmp_path: Path) -> None:
    file = write_study(tmp_path / "s.yaml", {**CARTPOLE, "seed": 0})
    driver = start_sweep(tmp_path / "study", "--study", file, "--ray", "127.0.0.1:1")
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 2
    assert "sndqn: --ray 127.0.0.1:1: expected a running cluster" in output
    assert "Traceback" not in output
