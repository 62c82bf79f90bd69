"""Where a vector of environments is: whether other code moved it, and whether it answers."""

import operator
import secrets
from typing import Any

from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecEnvWrapper, VecFrameStack

from sndqn.errors import TrainingError

_TOKEN = "sndqn_token"


class Position:
    """Where a vector of environments was left, and what it showed there.

    A vector does not say who stepped or reset it. But each step and each reset replaces some of its
    objects by new ones; which of them, depends on the vector.

    Args:
        env: The vector.
        observation: What it showed last.
    """

    __slots__ = ("_base", "_marks", "observation")

    def __init__(self, env: VecEnv, observation: Any) -> None:
        self.observation = observation
        self._base = env.unwrapped
        self._marks = _marks(self._base)

    def holds(self, env: VecEnv) -> bool:
        """Returns whether the vector is the same, and where it was left."""
        base = env.unwrapped
        return base is self._base and all(map(operator.is_, _marks(base), self._marks))


def _marks(base: VecEnv) -> tuple[Any, ...]:
    """Returns objects that a vector replaces at each reset or step.

    At resets `_options`; at steps `actions` or `buf_infos`, and `reset_infos` of other processes.
    """
    known = base.__dict__
    infos = known.get("buf_infos")
    first = infos[0] if infos else None
    return known.get("_options"), known.get("actions"), first, known.get("reset_infos")


def reuses_observations(env: VecEnv) -> bool:
    """Returns whether a vector writes its next observations into the arrays that it gave before."""
    layer: Any = env
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecFrameStack):
            return True
        layer = layer.venv
    return False


def clear_answers(env: VecEnv) -> None:
    """Receives what environments in processes of their own may still have to answer.

    The answer to a step that was sent and not received would be taken for the next one.

    Raises:
        TrainingError: Their processes have ended.
    """
    base = env.unwrapped
    if not isinstance(base, SubprocVecEnv):
        return
    token = secrets.token_hex(8)  # no answer to other code, nor to an earlier call cut short
    try:
        for remote in base.remotes:
            remote.send(("set_attr", (_TOKEN, token)))
            remote.send(("get_attr", _TOKEN))
        for remote in base.remotes:
            while not _is_token(remote.recv(), token):
                pass
    except (EOFError, OSError) as error:
        raise TrainingError(
            "expected the environments' processes to answer, found that they have ended, as "
            "Ctrl-C in a terminal ends them too: make the environments anew and give them to "
            "set_env"
        ) from error
    base.waiting = False


def _is_token(answer: Any, token: str) -> bool:
    return isinstance(answer, str) and answer == token
