"""The page of evidence is what its command makes of the committed results, by the plan's rule."""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sndqn.study.design import read_design, resolve

ROOT = Path(__file__).parent.parent
EVIDENCE = ROOT / "docs" / "evidence"
RUNS = sorted((EVIDENCE / "stage-a").glob("*.json"))
sys.path.insert(0, str(ROOT / "scripts"))
import evidence_page  # noqa: E402
import stage_a  # noqa: E402
from evidence_claims import STAGE_B_ARMS  # noqa: E402


def test_the_page_is_what_its_command_writes(tmp_path: Path) -> None:
    written = tmp_path / "README.md"
    script = str(ROOT / "scripts" / "evidence_page.py")
    subprocess.run([sys.executable, script, "--output", str(written)], check=True, timeout=60)
    assert written.read_text() == (EVIDENCE / "README.md").read_text()


def test_the_plan_and_the_rule_judge_by_the_same_published_scores() -> None:
    published = json.loads((EVIDENCE / "published.json").read_text())
    plan = (EVIDENCE / "plan.md").read_text()
    rows = re.findall(
        r"^\| ((?:MinAtar|Atari) \w+).*?\| ([\d.]+) \| ([\d.]+)(?: %)? \|", plan, re.M
    )
    games = [*published["minatar"]["games"], *published["dopamine"]["games"]]
    shown = [game.replace("/", " ") if "/" in game else f"Atari {game}" for game in games]
    assert [name for name, _, _ in rows] == shown
    for game, (_, mean, _) in zip(games, rows, strict=True):
        assert round(evidence_page.published_of(game, published).mean, 2) == float(mean)


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ((9.0, 10.0, 11.0), "passes"),  # 2.5 √(1/3 + 1/30 + 0.01) = 1.53 about 10
        ((10.5, 11.5, 12.5), "passes"),
        ((10.6, 11.6, 12.6), "fails"),
        ((7.4, 8.4, 9.4), "fails"),
        ((11.6, 11.6, 11.6), "fails"),  # three alike count as spread like the published runs
        ((11.5, 11.5, 11.5), "passes"),
        ((10.0, 10.1), "open: fewer than 3 seeds"),
    ],
)
def test_the_rule_allows_two_and_a_half_standard_errors(
    levels: tuple[float, ...], words: str
) -> None:
    published = evidence_page.Published(10.0, 1.0, 30, reading_error=0.1, least_spread=1.0)
    assert evidence_page.judged(levels, published).words == words


def test_games_of_the_last_quarter_count_alike_however_long_they_are() -> None:
    # Games 0 to 299 return 0; then short ones that return 1 and long ones that return 5.
    returns = [0.0] * 300 + [1.0] * 300 + [5.0] * 100
    ends = [2.5 * i for i in range(1, 301)]
    ends += [750 + 0.25 * i for i in range(1, 301)] + [825 + 1.75 * i for i in range(1, 101)]
    curve: dict[str, list[Any]] = {"timesteps": [], "mean_return": [], "games": []}
    for step in range(250, 1001, 5):
        games = sum(end <= step for end in ends)
        curve["timesteps"].append(step)
        curve["games"].append(games)
        curve["mean_return"].append(sum(returns[games - 100 : games]) / 100)
    assert evidence_page.last_quarter_by_games(curve, 1000) == pytest.approx(2.0, abs=0.15)


def test_the_last_tenth_begins_after_nine_and_counts_each_step_once() -> None:
    steps, means = [80, 90, 95, 100, 100], [1.0, 2.0, 4.0, 6.0, 6.0]
    curve = {"timesteps": steps, "mean_return": means, "games": [1] * 5}
    assert evidence_page.last_tenth(curve, 100) == 5.0


def test_the_queue_takes_a_seed_of_every_game_before_the_next() -> None:
    names = [(run.env, run.seed) for run in stage_a.RUNS[:9]]
    assert [seed for _, seed in names] == [0] * 3 + [1] * 3 + [2] * 3
    assert len({run.name for run in stage_a.RUNS}) == len(stage_a.RUNS) == 15


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_run_is_one_of_the_plans_and_whole(path: Path) -> None:
    result = json.loads(path.read_text())
    (run,) = [run for run in stage_a.RUNS if run.name == path.stem]
    assert result["command"] == " ".join(["sndqn", *run.command()])
    assert result["settings"]["sn_layers"] == "none"
    assert result["curve"]["timesteps"][-1] == result["settings"]["total_timesteps"]
    assert len(result["evaluation"]["returns"]) == result["evaluation"]["protocol"]["episodes"]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_the_plan_precedes_a_run(path: Path) -> None:
    commit = json.loads(path.read_text())["commit"]
    git = ["git", "-C", str(ROOT), "cat-file", "-e"]
    if subprocess.run([*git, commit], capture_output=True, check=False).returncode:
        pytest.skip("this checkout does not hold the run's commit")
    subprocess.run([*git, f"{commit}:docs/evidence/plan.md"], check=True)


@pytest.mark.parametrize(
    ("name", "n_arms", "n_runs"),
    [
        ("stage-b", 4, 120),
        ("stage-d-tuning", 72, 432),
        ("stage-d", 24, 720),
        ("stage-d-layers", 15, 225),
    ],
)
def test_the_studies_to_come_are_those_of_the_plan(name: str, n_arms: int, n_runs: int) -> None:
    runs = resolve(read_design(EVIDENCE / f"{name}.yaml"))
    assert len(runs) == n_runs
    assert len({run.arm for run in runs}) == n_arms
    assert {run.settings["total_timesteps"] for run in runs} == {1_000_000}


def test_results_have_the_scores_of_the_study_of_classic_control() -> None:
    runs = json.loads((EVIDENCE / "control.json").read_text())["runs"]
    page = (ROOT / "docs" / "results.md").read_text()
    rows = re.findall(r"^\| (\w+) \(-?\d+\) \| (none|-2) \| (.*) \|$", page, re.M)
    assert len(runs) == 3 * len(rows) == 18
    for game, layers, scores in rows:
        arm = "plain" if layers == "none" else "sn"
        found = [r for r in runs if r["env"].startswith(game) and r["arm"] == arm]
        means = [run["mean"] for run in sorted(found, key=lambda run: run["seed"])]
        assert [f"{mean:.1f}" for mean in means] == scores.split(" | ")


@pytest.mark.parametrize("game", ["Pong", "Breakout"])
def test_results_have_the_scores_of_the_studies_of_atari(game: str) -> None:
    runs = json.loads((EVIDENCE / f"{game.lower()}.json").read_text())["runs"]
    page = (ROOT / "docs" / "results.md").read_text()
    rows = re.findall(rf"^\| {game} \| (none|-2) \| ([\d ]+) \| (\d+) \| (.*) \|$", page, re.M)
    assert sum(len(scores.split(" | ")) for *_, scores in rows) == len(runs) > 0
    for layers, steps, minutes, scores in rows:
        arm = "plain" if layers == "none" else "sn"
        found = sorted((r for r in runs if r["arm"] == arm), key=lambda run: run["seed"])
        assert {run["timesteps"] for run in found} == {int(steps.replace(" ", ""))}
        assert round(sum(run["seconds"] for run in found) / len(found) / 60) == int(minutes)
        assert [f"{r['mean']:.1f} ± {r['std']:.1f}" for r in found] == scores.split(" | ")
        assert all(run["commit"] for run in found)


def test_results_have_the_scores_of_stage_b() -> None:
    runs = json.loads((EVIDENCE / "stage-b.json").read_text())["runs"]
    page = (ROOT / "docs" / "results.md").read_text()
    rows = re.findall(r"^\| (MinAtar/\w+) \| (.*) \|$", page, re.M)
    assert len(rows) == 3
    for game, scores in rows:
        for arm, cell in zip(STAGE_B_ARMS, scores.split(" | "), strict=True):
            means = [r["mean"] for r in runs if (r["env"], r["arm"]) == (game, arm)]
            mean, spread = statistics.fmean(means), statistics.stdev(means)
            assert f"{mean:.1f} ± {spread:.1f}" == cell.strip("*")


def test_agents_that_ship_have_the_scores_of_their_study() -> None:
    for path in (ROOT / "agents").rglob("seeds.json"):
        seeds = json.loads(path.read_text())
        runs = json.loads((EVIDENCE / f"{seeds['study']}.json").read_text())["runs"]
        game = path.parent.parent.relative_to(ROOT / "agents").as_posix()
        of_arm = [run for run in runs if run["arm"] == seeds["arm"]]
        found = [run for run in of_arm if run["env"].rsplit("-v", 1)[0] == game]
        assert seeds["scores"] == {str(run["seed"]): run["mean"] for run in found}
