"""The study that an agent's run is a part of: what an agent's card says of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sndqn.errors import SndqnError
from sndqn.files import write_bytes, write_text
from sndqn.files.reading import read_bytes
from sndqn.study.bootstrap import estimate
from sndqn.study.folder import Study, is_study
from sndqn.study.results import Results, read_results
from sndqn.study.statistics import mean
from sndqn.training.config_files import MAX_CONFIG_BYTES

_SECTION = """\
## Study

This agent is seed {seed} of the arm {arm}: one of {runs} runs of a study, of which {scored} are
evaluated. What the study is, is in `study.yaml`. On {env}, mean returns over seeds with intervals
of 95 % (expanded bootstrap):

| arm | seeds | mean | interval |
|---|---|---|---|
{rows}"""


@dataclass(frozen=True)
class Origin:
    """A run's study.

    Attributes:
        study: The study.
        run: The name of the run in it.
    """

    study: Study
    run: str

    def section(self) -> str:
        """Returns the card's section on it: every arm on the run's game."""
        run, results = self.study.find(self.run), read_results([self.study.path])
        own = next((each for each in results.runs if each.path.name == self.run), None)
        env = run.env if own is None else own.env
        return _SECTION.format(
            seed=run.seed,
            arm=f"`{run.arm}`",
            runs=len(self.study.runs),
            scored=sum(each.score is not None for each in results.runs),
            env=env,
            rows="\n".join(_row(results, env, arm) for arm in results.arms),
        )

    @staticmethod
    def command() -> list[str]:
        """Returns what one types to make the study again, beside what `write` left."""
        return ["sndqn", "sweep", "STUDY", "--study", "study.yaml"]

    def write(self, folder: Path) -> None:
        """Writes study.yaml, and the configuration files that it names to configs/ beside it.

        Raises:
            RunFolderError: They cannot be written.
        """
        design = self.study.design
        design = design.model_copy(
            update={
                "config": self._inside(design.config),
                "arms": {name: self._point(point) for name, point in design.arms.items()},
                "grid": {
                    name: [self._inside(each) for each in values] if name == "config" else values
                    for name, values in design.grid.items()
                },
            }
        )
        write_text(folder / "study.yaml", design.to_yaml())
        for file in sorted((self.study.path / "configs").glob("*")):
            (folder / "configs").mkdir(exist_ok=True)
            write_bytes(folder / "configs" / file.name, read_bytes(file, MAX_CONFIG_BYTES))

    def _point(self, point: dict[str, Any]) -> dict[str, Any]:
        return {**point, "config": self._inside(point["config"])} if "config" in point else point

    def _inside(self, config: Any) -> Any:
        """Returns the path of the study's copy of a configuration file; other names as they are."""
        name = Path(str(config)).name
        return f"configs/{name}" if (self.study.path / "configs" / name).is_file() else config


def find_origin(run: Path) -> Origin | None:
    """Finds the study that a run's folder, or that of one of its tasks, lies in."""
    for folder in (run.absolute(), run.absolute().parent):
        root = folder.parent.parent
        if folder.parent.name == "runs" and is_study(root):
            try:
                study = Study.open(root)
                study.find(folder.name)
            except SndqnError:  # a folder that someone put there is no run of the study
                return None
            return Origin(study, folder.name)
    return None


def _row(results: Results, env: str, arm: str) -> str:
    scores = [run.score for run in results.of(env, arm) if run.score is not None]
    if not scores:
        return f"| `{arm}` | 0 | | |"
    found = estimate(mean, {env: scores})
    ends = "" if found.low is None else f"{found.low:.2f} to {found.high:.2f}"
    return f"| `{arm}` | {len(scores)} | {found.value:.2f} | {ends or found.note} |"
