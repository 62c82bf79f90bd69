"""Games that were left before their end: what a replay has to know of them."""

import warnings
from typing import Any

import numpy as np
from stable_baselines3 import HerReplayBuffer

from sndqn.replay.frame_ring import FrameRing


def cut_games(replay: Any) -> None:
    """Tells a replay that the games under way were left: what is added next begins others.

    Their last transitions count as cut by a time limit: what follows is bootstrapped from, and no
    sum of rewards goes on beyond them.

    Args:
        replay: sndqn's own, or one of Stable-Baselines3's.
    """
    if isinstance(replay, FrameRing):
        replay.cut()
    elif isinstance(replay, HerReplayBuffer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what it is asked for
            replay.truncate_last_trajectory()
    elif replay.size():
        newest = replay.pos - 1
        going_on = np.flatnonzero(replay.dones[newest] == 0)
        if replay.handle_timeout_termination:
            replay.timeouts[newest, going_on] = 1
            replay.dones[newest, going_on] = 1
        elif replay.optimize_memory_usage:  # what follows will be overwritten
            replay.dones[newest, going_on] = 1


def finish_add(replay: Any, before: int) -> bool:
    """Returns whether an `add` that was interrupted had added its transition all the same.

    Args:
        replay: The replay, put right if it was about to begin at its front again.
        before: Its `pos` before the call.
    """
    if replay.pos == before:
        return False
    if replay.pos == replay.buffer_size:
        replay.full, replay.pos = True, 0
    return True
