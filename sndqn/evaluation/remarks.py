"""What a mean return alone hides: games that were cut, and why."""

from typing import TYPE_CHECKING

from sndqn.evaluation.protocol import EvaluationProtocol, EvaluationRecord

if TYPE_CHECKING:
    from sndqn.envs import AtariSettings, EnvSettings


def longest(protocol: EvaluationProtocol, settings: "EnvSettings") -> int | None:
    """Returns the steps after which an episode is cut at the latest; None where that is unknown."""
    from sndqn.envs import AtariSettings

    limits = [] if protocol.max_steps is None else [protocol.max_steps]
    if isinstance(settings, AtariSettings):
        limits.append(-(-settings.max_frames // settings.frame_skip))
    return min(limits, default=None)


def remarks(record: EvaluationRecord, settings: "EnvSettings") -> list[str]:
    """Says, a line each, what a reader of the mean return should know of how the games ended.

    Args:
        record: The evaluation, with its traces.
        settings: Of the environment.
    """
    from sndqn.envs import AtariSettings

    lines, n_games = [], len(record.episodes)
    n_hopeless = record.ended_by.count("hopeless")
    if n_hopeless:
        lines.append(
            f"{n_hopeless} of {n_games} games were ended as hopeless: for a minute of play nothing "
            "but a counter changed on the screen"
        )
    # A time limit of Gymnasium's is part of the task: to reach it may be the best there is.
    is_atari = isinstance(settings, AtariSettings)
    own_ends = ("terminated",) if is_atari else ("terminated", "truncated")
    if not any(ended in own_ends for ended in record.ended_by):
        line = "Every game was cut: none ended by itself"
        if isinstance(settings, AtariSettings) and _never_fired(record, settings):
            line += "; the agent pressed FIRE never, which some games wait for"
        lines.append(line)
    return lines


def _never_fired(record: EvaluationRecord, settings: "AtariSettings") -> bool:
    from sndqn.envs.atari import AtariEnv

    names = AtariEnv(settings).get_action_meanings()
    fires = {number for number, name in enumerate(names) if "FIRE" in name}
    pressed = any(fires & set(trace.actions.tolist()) for trace in record.traces)
    return bool(fires) and not pressed
