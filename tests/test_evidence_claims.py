"""What is said of stages B and C follows from their runs, by the plan's rules."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_runs import make_run

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import evidence_claims  # noqa: E402
from evidence_claims import (  # noqa: E402
    GAMES,
    STAGE_B_ARMS,
    STAGE_C_ARMS,
    stage_b,
    stage_c,
    study_b,
)
from evidence_details import draw_curves  # noqa: E402


def write(path: Path, runs: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"runs": runs}))


def stage_b_runs(gain_hot: float, gain_good: float, seeds: int = 10) -> list[dict[str, Any]]:
    gains = dict(zip(STAGE_B_ARMS, (0.0, gain_good, 0.0, gain_hot), strict=True))
    return [
        made(game, arm, seed, 8 + gain + 0.1 * (seed % 3))
        for game in GAMES
        for arm, gain in gains.items()
        for seed in range(seeds)
    ]


def made(game: str, arm: str, seed: int, score: float) -> dict[str, Any]:
    """Makes a run that reaches a score in training and a fifth of it in evaluation."""
    sigma = {"features_extractor.cnn.0": 3.0, "features_extractor.linear.0": 20.0 + seed}
    return {
        "env": game,
        "arm": arm,
        "seed": seed,
        "last_tenth": score,
        "all_steps": score / 2,
        "peak": 2 * score,
        "end": score,
        "mean": score / 5,
        "curve": {"timesteps": [500, 1000], "mean_return": [score / 2, score]},
        "layers": {"sigma": sigma, "sigma_effective": sigma},
        "networks": {"dormant_0.025": 0.25, "srank": 80},
    }


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


def test_other_measures_stand_beside_the_one_that_decides(tmp_path: Path) -> None:
    write(tmp_path / "stage-b.json", stage_b_runs(3.0, 0.0))
    section = stage_b(tmp_path).section
    decides, all_steps, peak, evaluation = (
        float(re.search(rf"^\| {words}.*\| ([-+.0-9]+) \[", section, re.M)[1])  # type: ignore[index]
        for words in ("training, last", "training, all", "training, its", "final")
    )
    assert all_steps == pytest.approx(decides / 2, abs=0.001)
    assert peak == pytest.approx(decides * 2, abs=0.001)
    assert evaluation == pytest.approx(decides / 5, abs=0.001)


def test_a_run_that_ends_below_half_its_peak_above_random_play_is_counted(tmp_path: Path) -> None:
    runs = stage_b_runs(0.0, 0.0)
    runs[0] |= {"end": 4.0, "peak": 9.0}  # Breakout, good-none; random play there is 0.5
    runs[1] |= {"end": 5.0, "peak": 9.0}
    for run in runs[2:]:
        run["peak"] = run["end"]
    write(tmp_path / "stage-b.json", runs)
    row = "| MinAtar Breakout | good-none | 24.5 | 24.5 | 3 | 0.25 | 80 | 1 of 10 |"
    assert row in stage_b(tmp_path).section
    assert stage_b(tmp_path).section.count("0 of 10 |") == 11


def test_the_curves_are_drawn_as_soon_as_a_game_has_two_seeds_of_each_arm(tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    folder.mkdir()
    write(folder / "stage-b.json", stage_b_runs(3.0, 0.0, seeds=2))
    draw_curves(study_b(folder), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


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
                "target_sigma_after_sync": {
                    "features_extractor.cnn.0": 12.0,  # no SN on it
                    "features_extractor.linear.0": sigma if arm == "torch-sn" else 1.0,
                    "q_net.0": 12.0,
                }
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
