"""Stock Stable-Baselines3 with torch's SN as an arm: its target is broken, a report shows it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sndqn.study.results import read_results

SCRIPT = Path(__file__).parent.parent / "scripts" / "stock_sb3.py"
HIDDEN = "features_extractor.linear.0"


@pytest.mark.slow
def test_after_a_sync_torchs_target_is_no_copy_and_sndqns_is(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--seeds", "1"]
    command += ["--timesteps", "9000", "--every", "3000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    results = read_results([tmp_path])
    assert set(results.arms) == {"none", "torch-sn", "sndqn-sn"}
    assert not results.unreadable
    for run in results.runs:
        gap = run.course.totals["target_gap_after_sync"].values
        norm = run.course.layers["target_sigma_after_sync"][HIDDEN].values
        assert run.status == "done"
        assert run.score is not None
        assert len(gap) == 2
        if run.arm == "torch-sn":
            assert np.all(gap > 1e-3)
            assert np.all(norm > 1.05)
        else:
            assert np.all(gap == 0)
        if run.arm == "sndqn-sn":
            assert norm == pytest.approx(1, abs=1e-3)
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert again.returncode == 0
    assert again.stdout == ""
