"""What is said of stages B and C follows from their runs, by the plan's rules."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_runs import make_run

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import evidence_claims  # noqa: E402
from evidence_claims import GAMES, STAGE_B_ARMS, STAGE_C_ARMS, stage_b, stage_c  # noqa: E402


def write(path: Path, runs: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"runs": runs}))


def stage_b_runs(gain_hot: float, gain_good: float, seeds: int = 10) -> list[dict[str, Any]]:
    gains = dict(zip(STAGE_B_ARMS, (0.0, gain_good, 0.0, gain_hot), strict=True))
    return [
        {"env": game, "arm": arm, "seed": seed, "last_tenth": 8 + gain + 0.1 * (seed % 3)}
        for game in GAMES
        for arm, gain in gains.items()
        for seed in range(seeds)
    ]


@pytest.mark.parametrize(
    ("gain_hot", "gain_good", "words"),
    [(3.0, 0.0, "supported"), (3.0, 3.0, "refuted"), (0.0, 3.0, "refuted")],
)
def test_sn_helps_more_where_hot_only_if_the_whole_interval_is_above_zero(
    tmp_path: Path, gain_hot: float, gain_good: float, words: str
) -> None:
    write(tmp_path / "stage-b.json", stage_b_runs(gain_hot, gain_good))
    claim = stage_b(tmp_path)
    assert claim.verdict.startswith(words)
    assert "8.09 ± 0.09 (10)" in claim.section


def test_there_is_no_verdict_before_every_run_of_the_plan_is_there(tmp_path: Path) -> None:
    write(tmp_path / "stage-b.json", stage_b_runs(3.0, 0.0)[:-1])
    assert stage_b(tmp_path).verdict == "open: 119 of 120 runs"
    assert "no verdict before all are there" in stage_b(tmp_path).section
    assert stage_c(tmp_path) == ("no runs yet", "No runs yet.")


def stage_c_runs(sigma: float, torch_score: float) -> list[dict[str, Any]]:
    scores = dict(zip(STAGE_C_ARMS, (5.0, torch_score, 6.0), strict=True))
    return [
        {
            "env": game,
            "arm": arm,
            "seed": seed,
            "last_tenth": score,
            "layer_peaks": {
                "target_sigma_after_sync": {"q_net.0": sigma if arm == "torch-sn" else 1.0}
            },
        }
        for game in GAMES
        for arm, score in scores.items()
        for seed in range(5)
    ]


@pytest.mark.parametrize(
    ("sigma", "torch_score", "words"),
    [
        (9.0, 1.0, "supported: in 3 of 3 games"),
        (1.5, 1.0, "refuted: in 0 of 3 games only"),
        (9.0, 5.5, "refuted: in 0 of 3 games only"),
    ],
)
def test_torchs_line_is_broken_only_where_sigma_runs_away_and_the_return_is_lower(
    tmp_path: Path, sigma: float, torch_score: float, words: str
) -> None:
    write(tmp_path / "stage-c.json", stage_c_runs(sigma, torch_score))
    assert stage_c(tmp_path).verdict == words


def test_scores_of_a_study_in_parts_come_together(tmp_path: Path) -> None:
    output = tmp_path / "scores.json"
    for part, seed in (("one", 0), ("two", 1)):
        make_run(tmp_path / part / "run", seed=seed, sn_layers="-2")
        make_run(tmp_path / part / "unfinished", seed=7, score=None, sn_layers="-2")
        script = str(ROOT / "scripts" / "study_scores.py")
        command = [sys.executable, script, str(tmp_path / part), str(output), "--commit", "abc"]
        subprocess.run(command, check=True, timeout=60)
    runs = json.loads(output.read_text())["runs"]
    assert [(run["seed"], run["commit"], run["timesteps"]) for run in runs] == [
        (0, "abc", 20_000),
        (1, "abc", 20_000),
    ]
    for run in runs:
        steps, returns = run["curve"]["timesteps"], run["curve"]["mean_return"]
        assert steps == list(range(1000, 21_000, 1000))
        assert run["last_tenth"] == pytest.approx(sum(returns[-2:]) / 2, rel=1e-4)
        assert run["all_steps"] == pytest.approx(sum(returns) / 20, rel=1e-4)
        assert run["peak"] == pytest.approx(max(returns), rel=1e-4)
        assert set(run["layers"]["sigma"]) == {"features_extractor.linear.0", "q_net.0"}


def test_the_studies_of_the_page_are_as_large_as_the_plan_says() -> None:
    none = Path("none")
    assert evidence_claims.Study(none, STAGE_B_ARMS, evidence_claims.STAGE_B_SEEDS).planned == 120
    assert evidence_claims.Study(none, STAGE_C_ARMS, evidence_claims.STAGE_C_SEEDS).planned == 45
