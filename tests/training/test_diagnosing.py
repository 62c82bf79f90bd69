"""Diagnostics: a training goes on as without them, to the bit, and a resumed one with the same."""

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killed_runs import SMALL, VARIANTS, finish, outcome, start, the_run

from sndqn.acceleration import compiler_available
from sndqn.agents import load_agent
from sndqn.diagnostics import layer_norms
from sndqn.diagnostics.networks import look
from sndqn.diagnostics.ranks import ranks
from sndqn.errors import RunFolderError
from sndqn.runs.checkpoint import CheckpointStore
from sndqn.runs.folder import RunFolder
from sndqn.training.config import make_config
from sndqn.training.run import resume, train

ALL: dict[str, Any] = {"diagnostics": "all", "diagnostics_every_timesteps": 60}
MINATAR: dict[str, Any] = {**SMALL, "env": "MinAtar/Breakout", "channels": "4", "eval_max_steps": 9}
COMPILED = {"compile": "always", "eval_every_timesteps": 0, "keep_best": False}


def measured(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.diagnostics.read_text().splitlines()]


def made(folder: Path, settings: dict[str, Any]) -> RunFolder:
    return train(make_config({**settings, "runs_dir": str(folder)}))


def left_by(folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """What a run left, but for its diagnostics, and of its last checkpoint what is no tensor."""
    run = the_run(folder)
    assert run is not None
    own = ("diagnostics.jsonl", "probe.npz", "newest/manifest.json")
    files = {name: digest for name, digest in outcome(folder).items() if name not in own}
    checkpoint = CheckpointStore(run).load_newest()
    assert checkpoint is not None
    parts = checkpoint.info["parts"]
    return files, [[part[key] for key in ("model", "replay", "journal")] for part in parts]


compiled = [
    pytest.mark.slow,
    pytest.mark.skipif(not compiler_available(), reason="no C++ compiler"),
]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SMALL, id="dqn"),
        pytest.param(VARIANTS["rainbow"], id="rainbow"),
        pytest.param(VARIANTS["m-iqn under a scheduler"], id="m-iqn", marks=pytest.mark.slow),
        pytest.param({**SMALL, **COMPILED}, id="dqn-compiled", marks=compiled),
        pytest.param(
            {**MINATAR, **COMPILED, "algo": "c51", "n_atoms": 11, "sn_layers": "all"},
            id="c51-compiled", marks=compiled,
        ),
    ],
)  # fmt: skip
def test_a_run_with_diagnostics_equals_the_run_without(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    without = made(tmp_path / "without", {**settings, "diagnostics": "none"})
    assert not without.diagnostics.exists()
    assert not without.probe.exists()
    run = made(tmp_path / "with", {**settings, **ALL})
    assert len(measured(run)) == 6
    assert left_by(tmp_path / "with") == left_by(tmp_path / "without")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made(tmp_path_factory.mktemp("run"), {**MINATAR, **ALL, "tensorboard": True})


def test_each_measurement_comes_just_before_the_target_s_update(
    run: RunFolder, tmp_path: Path
) -> None:
    assert [found["timesteps"] for found in measured(run)] == [80, 120, 180, 240, 300, 360]
    other = made(tmp_path, {**SMALL, **ALL, "diagnostics": "basic", "target_update_interval": 50})
    assert [found["timesteps"] for found in measured(other)] == [100, 150, 200, 250, 300, 400]


def test_a_measurement_has_every_quantity_as_a_number(run: RunFolder) -> None:
    last = measured(run)[-1]
    layers = last.pop("layers")
    assert set(last) == {
        "timesteps", "states", "q_mean", "q_max", "action_gap", "target_gap",
        "target_gap_after_sync", "churn_target_period", "churn", "lipschitz_bound", "slope_mean",
        "slope_max", "srank", "feature_rank", "relative_rank", "stable_rank", "entropy_rank",
        "dormant_0", "dormant_0.025", "dormant_0.1", "action_swaps", "q_bias_mean", "q_bias_std",
        "q_bias_relative", "q_bias_states",
    }  # fmt: skip
    of_a_layer = {
        "sigma_raw", "sigma_effective", "target_sigma_raw", "target_sigma_effective",
        "eps_ratio_10", "eps_ratio_50", "eps_ratio_90", "eps_ratio_below_1", "step_size",
        "gradient_norm", "update_norm", "relative_update",
    }  # fmt: skip
    dormant = {"dormant_0", "dormant_0.025", "dormant_0.1"}
    assert layers["features_extractor.cnn.0"].keys() == of_a_layer | dormant
    under_sn = of_a_layer | dormant | {"sigma_lag", "target_sigma_lag"}
    assert layers["q_net.0"].keys() == under_sn
    assert layers["q_net.2"].keys() == of_a_layer
    for found in (last, *layers.values()):
        assert all(isinstance(value, int | float) for value in found.values())
    assert last["target_gap"] > last["target_gap_after_sync"] == 0
    assert last["slope_max"] <= last["lipschitz_bound"]


def test_the_last_measurement_is_of_the_agent_on_the_run_s_states(tmp_path: Path) -> None:
    run = made(tmp_path, {**MINATAR, "eval_every_timesteps": 0, "keep_best": False})
    (last,) = measured(run)
    assert last["timesteps"] == 400
    with np.load(run.probe) as probe:
        states = torch.from_numpy(probe["states"])
    assert len(states) == last["states"] == 250  # all that the replay holds
    network = load_agent(run.agent).network
    for row in layer_norms(network, network.observation_space, exact=True):
        found = last["layers"][row.name]
        assert found["sigma_raw"] == pytest.approx(row.raw, rel=2e-4)
        assert found["sigma_effective"] == pytest.approx(row.effective, rel=2e-4)
    seen = look(network, states)
    assert ranks(seen.features) == pytest.approx(
        {name: last[name] for name in ranks(seen.features)}
    )
    assert last["q_mean"] == pytest.approx(float(seen.q_values.mean()), rel=1e-5)


def test_tensorboard_shows_them_and_shows_them_again_when_made_anew(run: RunFolder) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from sndqn.runs.metrics import rebuild_tensorboard

    shown = []
    for _ in range(2):
        events = EventAccumulator(str(run.tensorboard))
        events.Reload()
        tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("diagnostics/")]
        shown.append({tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags})
        rebuild_tensorboard(run.metrics, run.timing, run.tensorboard, run.diagnostics)
    assert shown[0] == shown[1]
    assert len(shown[0]["diagnostics/q_net.0/sigma_effective"]) == 6
    steps = [found["timesteps"] for found in measured(run)]
    assert [step for step, _ in shown[0]["diagnostics/srank"]] == steps


def killed_in_the_middle(folder: Path, settings: dict[str, Any]) -> Path:
    process = start(folder, settings)
    while not list(folder.glob("*/*/checkpoints/step-*220/manifest.json")):
        time.sleep(0.005)
    process.kill()
    process.join()
    found = the_run(folder)
    assert found is not None
    return found


def test_a_run_taken_up_again_measures_as_the_one_that_was_not(tmp_path: Path) -> None:
    settings = {**SMALL, **ALL}
    finish(tmp_path / "whole", settings)
    killed_in_the_middle(tmp_path / "killed", settings)
    finish(tmp_path / "killed", settings)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    whole = the_run(tmp_path / "whole")
    assert whole is not None
    assert len(measured(RunFolder(whole))) == 6


def test_other_states_in_the_file_are_refused(tmp_path: Path) -> None:
    path = killed_in_the_middle(tmp_path / "runs", {**SMALL, **ALL})
    probe = RunFolder(path).probe
    content = io.BytesIO()
    np.savez_compressed(content, states=np.zeros((250, 4), np.float32))
    probe.write_bytes(content.getvalue())
    with pytest.raises(RunFolderError, match=r"probe\.npz: .* found other content: put back"):
        resume(path)
    probe.unlink()
    with pytest.raises(RunFolderError, match=r"probe\.npz: .* found none: put back"):
        resume(path)


def test_each_of_several_tasks_is_measured(tmp_path: Path) -> None:
    run = made(tmp_path, {**VARIANTS["two tasks"], **ALL})
    tasks = [run.task("MinAtar/Breakout"), run.task("MinAtar/Asterix")]
    first, second = (measured(task)[-1] for task in tasks)
    assert first["layers"].keys() == second["layers"].keys()
    torso, head = next(iter(first["layers"])), list(first["layers"])[-1]
    # They share the torso, and its optimiser's memory, at other moments of the same training.
    assert first["layers"][torso]["sigma_raw"] == pytest.approx(
        second["layers"][torso]["sigma_raw"], rel=0.05
    )
    assert first["layers"][head]["sigma_raw"] != second["layers"][head]["sigma_raw"]
