"""A study that is killed at random moments ends as one that was not, and makes no run twice."""

import random
import time
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from sweeps import kill, outcome, start_sweep, wait_until, workers, write_study

from sndqn.study.folder import Study

# 2 arms, 2 games, 3 seeds; each run takes some seconds.
MINATAR: dict[str, Any] = {
    "env": ["MinAtar/Breakout", "MinAtar/Asterix"],
    "seed": "0..2",
    "arms": {"none": {"sn_layers": "none"}, "sn-2": {"sn_layers": "-2"}},
    "settings": {
        "total_timesteps": 3000, "learning_starts": 500, "buffer_size": 2000,
        "exploration_timesteps": 1500, "target_update_interval": 100, "log_every_timesteps": 250,
        "checkpoint_every_timesteps": 500, "eval_episodes": 3, "eval_max_steps": 200,
        "eval_every_timesteps": 1000, "keep_best": True, "tensorboard": False, 
        "sticky_actions": 0.1,
    },
}  # fmt: skip
VICTIMS = ["worker", "pool", "everything", "worker"] * 5


def finished(study: Study) -> dict[str, str]:
    """Gives when each run that is done was finished, by name."""
    about = {run.name: study.folder(run).read_provenance() for run in study.runs}
    return {name: each["finished"] for name, each in about.items() if "finished" in each}


def strike(study: Study, pools: list["Popen[str]"], victim: str, draw: random.Random) -> None:
    """Kills a worker, a pool, or everything at once."""
    wait_until(lambda: workers(study) or len(finished(study)) == len(study.runs))
    made = list(workers(study).values())
    if victim == "worker":
        for pid in made[:1]:
            kill(pid)
        return
    for pool in pools if victim == "everything" else [draw.choice(pools)]:
        pool.kill()
        pool.wait()
    for pid in made if victim == "everything" else []:
        kill(pid)


@pytest.mark.slow
def test_a_study_killed_at_twenty_moments_equals_one_that_was_not(tmp_path: Path) -> None:
    file = write_study(tmp_path / "s.yaml", MINATAR)
    begun = time.monotonic()
    reference = start_sweep(tmp_path / "reference", "--study", file, "--jobs", 2)
    output, _ = reference.communicate()
    assert reference.returncode == 0, output
    whole = Study.open(tmp_path / "reference")
    seconds_of_a_run = (time.monotonic() - begun) * 2 / len(whole.runs)

    draw = random.Random(27)
    command = [tmp_path / "study", "--study", file, "--jobs", 2, "--retry"]
    pools = [start_sweep(*command)]
    wait_until((tmp_path / "study" / "study.yaml").is_file)
    study = Study.open(tmp_path / "study")
    done: dict[str, str] = {}
    for victim in VICTIMS:
        time.sleep(draw.uniform(0, seconds_of_a_run))  # at any place of a run, its start too
        strike(study, pools, victim, draw)
        for pool in [pool for pool in pools if pool.poll() is not None]:
            pool.communicate()
            pools.remove(pool)
        while len(pools) < draw.choice([1, 1, 2]):  # now and then two share the work
            pools.append(start_sweep(*command))
        done.update({n: at for n, at in finished(study).items() if n not in done})
    for pool in pools:
        output, _ = pool.communicate(timeout=1800)
        assert pool.returncode == 0, output

    assert {path.name for path in (study.path / "runs").iterdir()} == {r.name for r in whole.runs}
    assert len(study.runs) == 12
    for run in study.runs:
        assert study.status(run) == "done"
        assert outcome(study.folder(run)) == outcome(whole.folder(run)), run.name
    later = finished(study)
    assert {name: later[name] for name in done} == done, "no finished run was touched again"
    resumed = [study.folder(run).read_provenance().get("resumed", []) for run in study.runs]
    assert sum(map(len, resumed)) > 5
