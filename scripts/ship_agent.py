"""Ships the run of median score of a study that was made in parts, whose scores are one JSON file.

    python scripts/ship_agent.py docs/evidence/stage-b.json RUN --arm ARM --name NAME

Of a study in one folder, `sndqn agents add` does the same.
"""

import argparse
import json
from pathlib import Path

from sndqn.agents.agents import load_agent
from sndqn.agents.evaluations import read_evaluation
from sndqn.agents.seeds import SeedScores
from sndqn.errors import RunFolderError
from sndqn.runs.folder import RunFolder
from sndqn.training.shipping import add_agent


def main() -> None:
    """Ships the run, or says why it is not the one."""
    parser = argparse.ArgumentParser(description="Ship the run of median score of a study.")
    parser.add_argument("scores", type=Path, help="the JSON of scripts/study_scores.py")
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--arm", required=True, help="the run's arm")
    parser.add_argument("--name", required=True, help="the agent's name within its environment")
    arguments = parser.parse_args()
    try:
        run = RunFolder.open(arguments.run)
        seeds = seeds_beside(run, arguments.scores, arguments.arm)
        print(f"{add_agent(run, arguments.name, seeds=seeds)}: {seeds.summary}")
    except RunFolderError as error:
        parser.error(str(error))


def seeds_beside(run: RunFolder, scores_file: Path, arm: str) -> SeedScores:
    """Gives the scores of all seeds of the run's arm.

    Raises:
        RunFolderError: The run is not the one of median score, or scored otherwise than the file
            says.
    """
    about, record = load_agent(run.agent).description, read_evaluation(run)
    entries = json.loads(scores_file.read_text())["runs"]
    env = about.settings.name
    means = {e["seed"]: e["mean"] for e in entries if e["env"] == env and e["arm"] == arm}
    if not means:
        raise RunFolderError(f"{scores_file}: expected runs of arm {arm} on {env}, found none")
    seeds = SeedScores(scores_file.stem, arm, means)
    if about.seed != seeds.median_seed:
        raise RunFolderError(
            f"{run.path}: expected seed {seeds.median_seed}, the median of {len(means)}, found "
            f"seed {about.seed}"
        )
    if record is None or record.mean != means[about.seed]:
        raise RunFolderError(
            f"{run.path}: expected a score of {means[about.seed]}, found "
            f"{'none' if record is None else record.mean}: run scripts/study_scores.py first"
        )
    return seeds


if __name__ == "__main__":
    main()
