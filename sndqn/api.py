"""What the commands do, from Python, one call each.

For example:

    run = sndqn.train("CartPole", total_timesteps=20_000, sn_layers="-2")
    print(run.evaluation.mean)
    run.agent.replay("best.mp4", values=True)

    agent = sndqn.load("CartPole/sn")
    agent.act(observation)
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from sndqn.agents import Agent, find_agent
from sndqn.agents.episodes import find_episode, game_beside
from sndqn.agents.evaluations import read_evaluation
from sndqn.agents.find import AgentPlace
from sndqn.diagnostics import LayerNorm, layer_norms
from sndqn.envs import import_typed, use_wrapper
from sndqn.errors import ConfigError
from sndqn.evaluation import EvaluationRecord, Trace, write_video
from sndqn.evaluation.films import Side, film, film_of_two
from sndqn.evaluation.protocol import limited
from sndqn.evaluation.window import drawing_unseen
from sndqn.files import write_bytes
from sndqn.runs.folder import RunFolder
from sndqn.study.board import Board
from sndqn.study.design import make_design
from sndqn.study.folder import Study, begin_study
from sndqn.study.pool import Pool, code_options, n_cores
from sndqn.study.work import Work
from sndqn.training import run as training
from sndqn.training.config import TrainConfig, make_config
from sndqn.training.config_files import layered_config, read_config
from sndqn.training.evaluating import play, protocol_of
from sndqn.training.told import tell
from sndqn.training.watching import Viewing, watch_agent


@dataclass(frozen=True)
class SavedAgent(Agent):
    """An agent, and the file it was read from: `sndqn.load` returns one.

    Attributes:
        source: What `load` was given.
        place: Its file, and where its evaluations are.
    """

    source: str
    place: AgentPlace

    def act(self, observation: Any) -> int:
        """Returns the greedy action for one observation, as evaluation sees it."""
        return int(np.argmax(self.q_values(observation)))

    @property
    def evaluation(self) -> EvaluationRecord | None:
        """Its own evaluation; None where there is none."""
        return read_evaluation(self.place.folder)

    def evaluate(self, *, verbose: bool = False, **changes: Any) -> EvaluationRecord:
        """Plays whole games under the protocol of its training, and writes nothing.

        Args:
            verbose: Whether to print how each game went.
            **changes: Of the protocol: `episodes`, `epsilon`, `seed`, `max_steps`.

        Returns:
            The record, with the trace of every game: `mean`, `std`, `returns`, `episodes`.

        Raises:
            ConfigError: The protocol has no such setting, or not such a value.
        """
        protocol = protocol_of(self, self.place.folder)
        known = [field.name for field in fields(protocol)]
        strange = [name for name in changes if name not in known]
        if strange:
            raise ConfigError(
                f"evaluate: expected {', '.join(known)}, found {strange[0]!r}: leave it out"
            )
        settings = self.description.settings
        return play(self, limited(replace(protocol, **changes), settings), _console(verbose))

    def replay(
        self,
        file: str | Path,
        *,
        episode: int | str = "best",
        seed: int | None = None,
        values: bool = False,
        side_by_side: "SavedAgent | None" = None,
    ) -> Path:
        """Writes a video of a game.

        Args:
            file: The video's file, such as "best.mp4".
            episode: Which game of its own evaluation, counted from 0, or "best". It is replayed
                from its trace, and each step checked.
            seed: Of a new game to play instead.
            values: Whether the Q-values are shown beside the picture.
            side_by_side: Another agent of the same environment, whose game of the same seed is
                shown beside this one.

        Returns:
            The file.

        Raises:
            RunFolderError: There is no evaluation of its own, and no seed was given.
            ConfigError: The other agent is of another environment.
        """
        trace = self._game(episode, seed)
        with drawing_unseen():
            if side_by_side is None:
                pictures = film(trace, self.values if values else None)
            else:
                other = game_beside(side_by_side.place, trace, side_by_side).trace
                one = Side(self.source, trace, self.values if values else None)
                beside = Side(side_by_side.source, other, side_by_side.values if values else None)
                pictures = film_of_two((one, beside))
            write_video(Path(file), pictures.frames, pictures.fps)
        return Path(file)

    def watch(
        self,
        *,
        games: int | None = None,
        epsilon: float | None = None,
        seed: int | None = None,
        speed: float = 1.0,
        values: bool = True,
        verbose: bool = True,
    ) -> None:
        """Plays now, in a window, until it is closed: `sndqn watch`.

        While a training goes on with the agent's run, each game is played by the newest weights.

        Args:
            games: Close the window after so many games; None goes on.
            epsilon: Probability of a random action; None for that of its training's evaluation.
            seed: Of the games; None for that of the evaluation, whose games these then are.
            speed: 2 is twice the game's own.
            values: Whether the Q-values are shown beside the picture at first.
            verbose: Whether to print how each game went.

        Raises:
            ConfigError: A number is out of range, or there is no display.
        """
        how = Viewing(games, epsilon, seed, speed, values)
        watch_agent(self.source, self.place, how, _console(verbose))

    def _game(self, episode: int | str, seed: int | None) -> Trace:
        if seed is not None:
            return self.evaluate(episodes=1, seed=seed).traces[0]
        return find_episode(self.source, str(episode)).trace

    def layers(self) -> list[LayerNorm]:
        """Computes σ of every weight layer exactly, of the weight and of the layer as it acts."""
        return layer_norms(self.network, self.network.observation_space, exact=True)

    def export(self, file: str | Path) -> Path:
        """Writes the agent as a file of its own.

        Args:
            file: Its suffix says what: ".safetensors" an agent file, ".onnx" an ONNX model, ".zip"
                a model that Stable-Baselines3 or sb3-contrib loads.

        Raises:
            ConfigError: Another suffix.
        """
        from sndqn.agents.export import to_onnx, to_sb3

        path = Path(file)
        if path.suffix == ".safetensors":
            content = self.place.read()
        elif path.suffix in (".onnx", ".zip"):
            content = (to_onnx if path.suffix == ".onnx" else to_sb3)(self)
        else:
            raise ConfigError(
                f"export: expected a file called .safetensors, .onnx or .zip, found {path.name}"
            )
        write_bytes(path, content)
        return path


@dataclass(frozen=True)
class Run:
    """A training's folder: `sndqn.train` and `sndqn.resume` return one.

    Attributes:
        folder: The files in it, by name.
    """

    folder: RunFolder

    @property
    def path(self) -> Path:
        """The folder's path."""
        return self.folder.path

    @property
    def tasks(self) -> dict[str, "Run"]:
        """The runs of several tasks, by environment; empty for a run of one."""
        if not self.folder.tasks.is_file():
            return {}
        names = read_config(str(self.folder.tasks))["env"].split(",")
        folders = sorted(found.parent for found in self.path.glob("*/config.yaml"))
        found = {read_config(str(each / "config.yaml"))["env"]: each for each in folders}
        return {name: Run(RunFolder(found[name])) for name in map(str.strip, names)}

    @property
    def config(self) -> TrainConfig:
        """Every setting."""
        several = self.folder.tasks.is_file()
        return make_config(read_config(str(self.folder.tasks if several else self.folder.config)))

    @property
    def agent(self) -> SavedAgent:
        """What it learnt."""
        return load(self.path)

    @property
    def evaluation(self) -> EvaluationRecord | None:
        """The evaluation at its end; None before."""
        return read_evaluation(self.folder)

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the records of metrics.jsonl: "timesteps", and the logged values by name."""
        return [json.loads(line) for line in self.folder.metrics.read_text().splitlines()]

    def diagnostics(self) -> list[dict[str, Any]]:
        """Returns the measurements of diagnostics.jsonl, as docs/diagnostics.md lists them.

        "timesteps", values by name, and "layers": values of each weight layer by its name.
        """
        found = self.folder.diagnostics
        lines = found.read_text().splitlines() if found.is_file() else []
        return [json.loads(line) for line in lines]


def train(
    env: str, *, config: str | Path | None = None, verbose: bool = True, **settings: Any
) -> Run:
    """Trains an agent, evaluates it, and leaves everything in a run folder: `sndqn train`.

    Args:
        env: What to learn: "Breakout", "MinAtar/Breakout", "CartPole", any discrete Gymnasium id;
            or several of one suite, with a comma between.
        config: A YAML file with settings, or the name of a shipped one, such as "rainbow".
        verbose: Whether to print what the command prints.
        **settings: Of `sndqn.training.config.TrainConfig`, named as the command's flags, with "_"
            for "-": sn_layers="-2", total_timesteps=100_000. Modules of `imports` are imported.

    Raises:
        SndqnError: A setting or a name is wrong; nothing was written.
        TrainingStopped: Ctrl-C; what was learnt is saved, and `sndqn.resume` goes on.
    """
    given: dict[str, Any] = {"env": env, **settings}
    first = ("env", "imports", "wrappers", "algo")
    _use_code(make_config({name: given[name] for name in first if name in given}))
    resolved = layered_config(given, None if config is None else str(config))
    _use_code(resolved)
    return Run(training.train(resolved, _console(verbose), given))


def resume(path: str | Path, *, more: int | None = None, verbose: bool = True) -> Run:
    """Goes on with a run: `sndqn train --resume`, or with `more` `sndqn train --more`.

    Args:
        path: The run's folder.
        more: Steps for which to go on with a finished run; None goes on with an interrupted one.
        verbose: Whether to print what the command prints.

    Raises:
        RunFolderError: There is none to go on with.
        ConfigError: So few steps would teach nothing.
    """
    if more is None:
        return Run(training.resume(path, _console(verbose)))
    return Run(training.train_more(path, int(more), _console(verbose)))


def report(
    paths: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    formats: Sequence[str] = ("html",),
    baseline: str | None = None,
) -> Path:
    """Writes one page that says which arm is better, by how much, how surely, on which game.

    Args:
        paths: Folders of studies, of runs, or with runs in them; one, or several.
        output: The page, such as "layers.html", or a folder for report.html; by default the folder
            of the only path, or here.
        formats: Some of "html", "pdf", "png", "csv"; figures go beside the page.
        baseline: The arm that others are compared with; by default the first without SN.

    Returns:
        The page, or the folder of the figures where no page was asked for.

    Raises:
        SndqnError: There is no run, no arm of that name, or nothing can be written there.
    """
    from sndqn.study.report import write_report

    given = [paths] if isinstance(paths, str | Path) else list(paths)
    return write_report(given, output, formats=formats, baseline=baseline)[0]


def sweep(
    path: str | Path,
    design: Mapping[str, Any] | None = None,
    *,
    jobs: int | None = None,
    retry: bool = False,
    imports: Sequence[str] = (),
    wrappers: Sequence[str] = (),
    verbose: bool = True,
) -> Study:
    """Makes the runs of a study that are missing, in processes of this machine: `sndqn sweep`.

    Args:
        path: The study's folder, new or not.
        design: The keys of study.yaml: `env`, `seed`, `settings`, `arms`, `grid`, `exclude`; None
            to go on with the study that is there.
        jobs: Runs at a time; None for one for each core.
        retry: Whether runs that failed are tried again.
        imports: Modules to import first, such as one that registers environments.
        wrappers: Wrappers that environments may have, "module:Class".
        verbose: Whether to print what the command prints.

    Returns:
        The study: its `runs`, each one's `status(run)` and `folder(run)`.

    Raises:
        SndqnError: The design is wrong, or the folder holds something else; nothing was written.
        TrainingStopped: Ctrl-C; all is saved, and the same call goes on.
    """
    for module in imports:
        import_typed(module, "imports")
    for wrapper in wrappers:
        use_wrapper(wrapper)
    if design is None:
        study = Study.open(path)
    else:
        study, _ = begin_study(Path(path), make_design(dict(design), "sweep"))
    if retry:
        study.forget_failures()
    pool = Pool(jobs or n_cores(), code_options(imports, wrappers))
    Work(study, pool, Board(study, _console(verbose))).do()
    return study


def load(
    agent: str | Path,
    *,
    sha256: str | None = None,
    imports: Sequence[str] = (),
    wrappers: Sequence[str] = (),
    **told: Any,
) -> SavedAgent:
    """Loads an agent; no code in its file is run, and no pickle is read.

    Args:
        agent: The folder of a run, an agent file, a zip of Stable-Baselines3, the folder of a
            training by rl-zoo, or the name of a shipped agent: "CartPole/sn".
        sha256: What the SHA-256 of the file must be; None takes any.
        imports: Modules to import first, such as one that registers environments.
        wrappers: Wrappers that its environment may have, "module:Class".
        **told: What a zip does not say of itself: `env`, `protocol`, `env_kwargs`; `activation`,
            `sn_mode`, `v_min`, `v_max` and `n_acting_quantiles`, if it does not say these either.

    Raises:
        SndqnError: There is none, or it is damaged, or another one.
    """
    for module in imports:
        import_typed(module, "imports")
    for wrapper in wrappers:
        use_wrapper(wrapper)
    place = find_agent(str(agent), tell(told, imports, wrappers))
    found = place.load(sha256)
    return SavedAgent(found.network, found.description, found.sha256, str(agent), place)


def _use_code(config: TrainConfig) -> None:
    for module in config.imports:
        import_typed(module, "imports")
    for wrapper in config.wrappers:
        use_wrapper(wrapper)


def _console(verbose: bool) -> Console:
    return Console(quiet=not verbose)
