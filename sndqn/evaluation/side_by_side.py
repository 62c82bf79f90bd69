"""Episodes played side by side: their Q-values in one batch, their emulators in threads.

What is played beside an episode, and how many, does not show in it: each has its own environment,
seeded by its own seed, its own random actions, and Q-values that are those of its observation alone
(`values.NetworkValues`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sndqn.evaluation.play import (
    Env,
    Episode,
    EpsilonGreedy,
    QFunction,
    count_actions,
    values_of_many,
)
from sndqn.evaluation.recording import Recorder
from sndqn.evaluation.traces import Trace

OnStep = Callable[[int, int], None]


@dataclass(eq=False)
class Player:
    """An episode under way, and what is to become of it.

    Attributes:
        number: Of the episode.
        env: Where it is played.
        episode: Its steps.
        greedy: Chooses its actions.
        recorder: Makes its trace.
    """

    number: int
    env: Env
    episode: Episode
    greedy: EpsilonGreedy
    recorder: Recorder

    def begin(self, q_values: np.ndarray) -> None:
        """Begins a step with the action that the Q-values say."""
        self.episode.begin(self.greedy(q_values), q_values)

    def finish(self, on_step: OnStep | None) -> bool:
        """Ends the step; says whether the episode is over."""
        over = self.recorder.add(self.episode.finish())
        if on_step is not None:
            on_step(self.number, self.recorder.length)
        return over


def start(env: Env, number: int, *, seed: int, epsilon: float, recorder: Recorder) -> Player:
    """Begins an episode in an environment."""
    episode = Episode(env, seed=seed)
    recorder.add(episode.step)
    greedy = EpsilonGreedy(count_actions(env), seed=seed, epsilon=epsilon)
    return Player(number, env, episode, greedy, recorder)


def play_side_by_side(
    envs: Sequence[Env],
    numbers: Iterable[int],
    begin: Callable[[Env, int], Player],
    q_function: QFunction,
    on_step: OnStep | None = None,
) -> Iterator[tuple[int, Trace]]:
    """Plays episodes, as many at a time as there are environments.

    Where environments work in threads of their own, one half of them does while the Q-values of the
    other half are found.

    Args:
        envs: Environments, all made alike.
        numbers: Of the episodes.
        begin: Begins the episode of a number in an environment, see `start`.
        q_function: The agent.
        on_step: Called after each step with the episode's number and the number of its steps.

    Yields:
        The number and the trace of each episode, when it is over.
    """
    waiting = iter(numbers)
    players = [begin(env, number) for env, number in zip(envs, waiting, strict=False)]
    in_threads = all(hasattr(env, "begin_step") for env in envs)
    groups = [players[::2], players[1::2]] if in_threads else [players]
    for group in groups:
        _begin_step(group, q_function)
    while any(groups):
        for group in groups:
            for other in groups:
                while len(other) > len(group) + 1:
                    group.append(other.pop())
            finished = [player for player in group if player.finish(on_step)]
            group[:] = [player for player in group if player not in finished]
            yield from ((player.number, player.recorder.trace()) for player in finished)
            following = zip(finished, waiting, strict=False)
            group.extend(begin(player.env, number) for player, number in following)
            _begin_step(group, q_function)


def _begin_step(players: Sequence[Player], q_function: QFunction) -> None:
    """Begins a step of each, by Q-values found at once."""
    if not players:
        return
    observations = [player.episode.step.observation for player in players]
    for player, values in zip(players, values_of_many(q_function, observations), strict=True):
        player.begin(values)
