"""Games as they are watched: moment by moment, while they are played."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sndqn.evaluation.play import Env, Episode, EpsilonGreedy, QFunction, count_actions
from sndqn.evaluation.protocol import EvaluationProtocol
from sndqn.evaluation.recording import Recorder
from sndqn.evaluation.replaying import drawn
from sndqn.evaluation.traces import EndedBy
from sndqn.evaluation.values import one_thread

if TYPE_CHECKING:
    from sndqn.envs import EnvSettings


@dataclass(frozen=True, slots=True)
class Moment:
    """A picture of a game, and what is known there.

    Attributes:
        frame: RGB uint8 (height, width, 3).
        step: Number of actions so far; of pictures, where they are all that is known.
        episode_return: Return so far; None where it is not known.
        q_values: Of the state in the picture, shape (n_actions,), or of the step before where the
            picture is between two; None for random actions.
        action: The one taken there; None at the end.
        ended_by: How the game ended, in its last moment.
    """

    frame: np.ndarray
    step: int
    episode_return: float | None = None
    q_values: np.ndarray | None = None
    action: int | None = None
    ended_by: EndedBy | None = None


@dataclass(frozen=True)
class Game:
    """A game to show.

    Attributes:
        moments: Its moments, made as they are asked for.
        words: What to say of it, such as who plays.
    """

    moments: Iterator[Moment]
    words: str = ""


def play_moments(
    env: Env,
    settings: "EnvSettings",
    q_function: QFunction | None,
    protocol: EvaluationProtocol,
    number: int,
) -> Iterator[Moment]:
    """Plays an episode of a protocol: the same steps as `evaluate` makes of it.

    Args:
        env: What `make_env(settings, render_mode="rgb_array")` gave.
        settings: The settings it was made from.
        q_function: The agent; None acts at random.
        protocol: How it is played, already `limited`.
        number: Of the episode, from 0.

    Yields:
        The reset, then the pictures of each step: every frame of Atari's, 60 a second of play.

    Raises:
        TrainingError: The environment failed.
        RenderingError: It cannot be drawn.
    """
    seed, n_actions = protocol.episode_seed(number), count_actions(env)
    epsilon = 1.0 if q_function is None else protocol.epsilon
    choose = EpsilonGreedy(n_actions, seed=seed, epsilon=epsilon)
    recorder = Recorder(
        settings,
        seed=seed,
        epsilon=epsilon,
        max_steps=protocol.max_steps,
        end_hopeless=protocol.end_hopeless,
    )
    about = settings.to_dict()
    episode = Episode(env, seed=seed)
    total = 0.0
    before: Moment | None = None
    while True:
        over = recorder.add(episode.step)
        total += episode.step.reward
        *between, frame = drawn(env, about, every_frame=True)
        if before is not None:
            yield from (replace(before, frame=other) for other in between)
        q_values = _values(q_function, episode.step.observation)
        moment = Moment(frame, recorder.length, total, q_values)
        if over:
            yield replace(moment, ended_by=recorder.ended_by)
            return
        action = choose(np.zeros(n_actions) if q_values is None else q_values)
        before = replace(moment, action=action)
        yield before
        episode.begin(action)
        episode.finish()


def _values(q_function: QFunction | None, observation: Any) -> np.ndarray | None:
    if q_function is None:
        return None
    with one_thread():  # as in evaluation, to the bit
        return np.asarray(q_function(observation))
