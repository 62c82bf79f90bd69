"""Watching: an agent, the newest of a training, or random actions, in a window, game after game."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console

from sndqn.agents import Agent, AgentPlace, find_agent
from sndqn.agents.following import NewestAgent
from sndqn.agents.shipped import is_shipped, shipped_agents
from sndqn.console import say
from sndqn.envs import EnvSettings, describe, find_env, make_env, resolve_env
from sndqn.errors import ConfigError, EnvironmentNameError
from sndqn.evaluation import EvaluationProtocol
from sndqn.evaluation.controls import FASTEST, SLOWEST, Controls
from sndqn.evaluation.play import QFunction
from sndqn.evaluation.protocol import STEPS_WITHOUT_LIMIT, limited
from sndqn.evaluation.replaying import rendering_of_env
from sndqn.evaluation.show import Show
from sndqn.evaluation.watching import Game, Moment, play_moments
from sndqn.evaluation.window import Window
from sndqn.runs.folder import RunFolder
from sndqn.training.config import make_config
from sndqn.training.config_files import read_config
from sndqn.training.evaluating import evaluation_protocol, protocol_of
from sndqn.training.settings import Environment


@dataclass(frozen=True)
class Viewing:
    """How games are watched.

    Attributes:
        games: Games to show; None goes on until the window is closed.
        epsilon: Probability of a random action; None for that of the agent's evaluation.
        seed: Of the games; None for that of the agent's evaluation, whose games these then are.
        speed: Factor on the game's own speed.
        values: Whether the Q-values are shown at first.

    Raises:
        ConfigError: A number is out of range.
    """

    games: int | None = None
    epsilon: float | None = None
    seed: int | None = None
    speed: float = 1.0
    values: bool = True

    def __post_init__(self) -> None:
        self.applied_to(EvaluationProtocol())
        if self.games is not None and self.games < 1:
            raise ConfigError(f"expected games of at least 1, found {self.games}")
        if not SLOWEST <= self.speed <= FASTEST:
            raise ConfigError(f"expected speed from {SLOWEST} to {FASTEST:g}, found {self.speed}")

    def applied_to(self, protocol: EvaluationProtocol) -> EvaluationProtocol:
        """Returns a protocol with what is changed here."""
        changes = {"epsilon": self.epsilon, "seed": self.seed}
        given: Any = {name: value for name, value in changes.items() if value is not None}
        return replace(protocol, **given)


def names_environment(given: str) -> bool:
    """Returns whether an environment is called so, and no file, folder or shipped agent."""
    if is_shipped(given) or Path(given).exists():
        return False
    try:
        find_env(given)
    except EnvironmentNameError:
        return False
    return True


def watch_environment(
    given: dict[str, Any], how: Viewing, console: Console, sha256: str | None = None
) -> None:
    """Shows games of an environment: the best shipped agent's, or random actions.

    Args:
        given: `env`, and other settings of a configuration that say what the name means.
        how: How they are watched.
        console: Where to say who plays, and how each game went.
        sha256: What the SHA-256 of the shipped agent's file must be; None takes any.

    Raises:
        SndqnError: The environment cannot be made, or there is no display.
    """
    config = make_config(given)
    settings = resolve_env(
        config.env,
        modules=config.imports,
        wrappers=config.wrappers,
        **config.section(Environment),
    )
    name = _best_shipped(settings)
    if name is not None:
        say(console, f"No agent is named: {name} plays, which ships with sndqn")
        watch_agent(name, find_agent(name), how, console, sha256)
        return
    say(console, f"No agent is named, and none ships for this: random actions in {settings.name}")
    protocol = limited(how.applied_to(evaluation_protocol(config)), settings)
    say(console, describe(settings, protocol.max_steps or STEPS_WITHOUT_LIMIT))
    remedy = f"Type sndqn train --env {config.env}: its last line makes a video of the agent"
    with Window(f"sndqn: {settings.name}", remedy) as window:
        _show(window, settings, protocol, how, console, lambda: (None, "random actions"))


def _best_shipped(settings: EnvSettings) -> str | None:
    """Returns the shipped agent with the best score in the same environment; SN wins a draw."""

    def is_same(name: str) -> bool:
        other = find_agent(name).load().description.settings.to_dict()
        own = settings.to_dict()
        # How observations are arranged is a matter of the agent's network.
        return all(other.get(key) == own.get(key) for key in {*other, *own} - {"arranged"})

    found = [
        (entry["mean"], entry["sn_layers"] != "none", name)
        for name, entry in shipped_agents().items()
        if entry["env"] == settings.name and is_same(name)
    ]
    return max(found)[2] if found else None


def watch_agent(
    given: str, place: AgentPlace, how: Viewing, console: Console, sha256: str | None = None
) -> None:
    """Shows an agent's games under the protocol of its evaluation.

    Each game is played by the weights that its file holds when the game begins.

    Args:
        given: What someone called it.
        place: Where it is.
        how: How it is watched.
        console: Where to say who plays, and how each game went.
        sha256: What the SHA-256 of its file must be; None takes any.

    Raises:
        SndqnError: It cannot be read, or there is no display.
    """
    with Window(f"sndqn: {given}", _remedy(given, place)) as window:
        newest = NewestAgent(place, sha256)
        settings = newest.agent.description.settings
        protocol = limited(how.applied_to(protocol_of(newest.agent, place.folder)), settings)
        say(console, describe(settings, protocol.max_steps or STEPS_WITHOUT_LIMIT))
        say(console, f"sha256 {newest.agent.sha256}")
        of_total = _of_total(place.folder)

        def next_player() -> tuple[QFunction, str]:
            agent: Agent = newest.newest()
            return agent.values, f"after {agent.description.timesteps:,}{of_total} steps"

        def notice() -> str:
            if newest.is_newer:
                return "newer weights: n takes them"
            return "the newest weights cannot be read" if newest.problem else ""

        _show(window, settings, protocol, how, console, next_player, notice)


def _remedy(given: str, place: AgentPlace) -> str:
    if place.folder.evaluation.is_file():
        return f"Type sndqn replay {given} for a video"
    return f"Type sndqn evaluate {given}: its last line makes a video"


def _of_total(folder: RunFolder) -> str:
    """Returns how long a run's training is to be: " of 60,000"; "" for an agent by itself."""
    if not folder.config.is_file():
        return ""
    return f" of {make_config(read_config(str(folder.config))).total_timesteps:,}"


def _show(
    window: Window,
    settings: EnvSettings,
    protocol: EvaluationProtocol,
    how: Viewing,
    console: Console,
    next_player: Callable[[], tuple[QFunction | None, str]],
    notice: Callable[[], str] = lambda: "",
) -> None:
    """Shows games in a window, each by who plays next."""
    env = make_env(settings, render_mode="rgb_array")

    def games() -> Iterator[Game]:
        for number in count() if how.games is None else range(how.games):
            q_function, words = next_player()
            moments = play_moments(env, settings, q_function, protocol, number)
            yield Game(_with_result(moments, f"game {number + 1}", words, console), words)

    with closing(env):
        rendering = rendering_of_env(env, settings.to_dict())
        fps = rendering.fps * rendering.frames_per_step
        has_values = next_player()[0] is not None
        Show(
            window,
            Controls(fps, speed=how.speed, values=how.values if has_values else None),
            action_names=rendering.action_names,
            n_games=how.games,
            notice=notice,
        ).run(games())


def _with_result(
    moments: Iterator[Moment], name: str, words: str, console: Console
) -> Iterator[Moment]:
    """Yields a game's moments, and says how it went when it is over."""
    for moment in moments:
        yield moment
        if moment.ended_by is not None:
            cut = "" if moment.ended_by == "terminated" else f" ({moment.ended_by})"
            result = f"return {moment.episode_return:g}, {moment.step:,} steps{cut}"
            say(console, f"{name}: {result}; {words}")
