"""What strangers may send, and reading it under watch."""

import random
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
from watched import warming_up, watched

from sndqn.envs import make_env, settings_from_dict
from sndqn.errors import SndqnError

COUNTS = [pytest.param(500, id="500"), pytest.param(10_000, id="10000", marks=pytest.mark.slow)]
ENVIRONMENTS = ["CartPole-v1", "CartPole-v0", "Acrobot-v1", "Taxi-v4", "FrozenLake-v1"]
ENVIRONMENTS += ["Blackjack-v1", "LunarLander-v3", "Pendulum-v1"]
ENVIRONMENTS += ["CliffWalking-v1", "MountainCar-v0", "CarRacing-v3"]
# None of them lacks a package: those that do are imported again at every try.
HOSTILE: list[Any] = [
    *ENVIRONMENTS,
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 10**400, -0.0, 1e308, 1e-308, 0.5),
    *("", "x" * 5000, "\x1b[2J", "\x00", "\ud800", "\u202e", "\n", "os:system", "../../etc/passwd"),
    *("__import__('os').system('true')", "!!python/object/apply:os.system ['true']", "${HOME}"),
    *("{}", "%s%n", "builtins.eval", "torch.nn.ReLU", "GymV21Environment-v0", "nan", "1e4", "-2"),
    *([], {}, [[]], [1] * 100, {"a": {"b": [None]}}, [[[[[[[[[[1]]]]]]]]]], {"": 0}),
    *({"__class__": "os.system"}, {"suite": "atari"}, {"suite": "minatar", "game": "asterix"}),
    {"suite": "control", "env_id": "FrozenLake-v1", "env_kwargs": {"desc": "SFFG" * 50}},
    {"suite": "control", "env_id": "CartPole-v1", "env_kwargs": {"xml_file": "/etc/passwd"}},
    {"suite": "atari", "game": "breakout", "screen_size": 512, "frame_stack": 16},
]


def anything(draw: random.Random) -> Any:
    return draw.choice(HOSTILE)


def with_changed_part(data: Any, draw: random.Random) -> Any:
    """JSON data with something else at one place of it, left out or added."""
    if isinstance(data, dict) and data and draw.random() < 0.8:
        key = draw.choice(list(data))
        if draw.random() < 0.1:
            return {name: value for name, value in data.items() if name != key}
        return {**data, key: with_changed_part(data[key], draw)}
    if isinstance(data, dict) and draw.random() < 0.3:
        return {**data, str(anything(draw))[:50]: anything(draw)}
    return anything(draw)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A file with bits flipped, cut short, a part repeated, or nothing left of it."""
    kind = draw.randrange(5)
    at, to = sorted(draw.sample(range(len(content)), k=2))
    if kind == 0:
        return draw.randbytes(draw.randrange(400))
    if kind == 1:
        return content[:at]
    if kind == 2:
        return content[:to] + content[at:]
    if kind == 3:
        return content[:at] + draw.randbytes(draw.randrange(1, 9)) + content[to:]
    changed = bytearray(content)
    for _ in range(draw.randrange(1, 5)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def read_all(count: int, make: Callable[[random.Random], Any], read: Callable[[Any], Any]) -> int:
    """Reads so many inputs under watch; gives how many were refused."""
    draw = random.Random(count)
    with warming_up():
        for _ in range(200):
            refused(read, make(draw))
    refusals = 0
    for _ in range(count):
        content = make(draw)
        with watched():
            refusals += refused(read, content)
    return refusals


def refused(read: Callable[[Any], Any], content: Any) -> bool:
    try:
        read(content)
    except SndqnError:
        return True
    return False


def make_known_environments() -> None:
    """Makes every environment that an input may name once, so that their modules are imported."""
    with warming_up():
        settings = [value for value in HOSTILE if isinstance(value, dict) and "suite" in value]
        settings += [{"suite": "control", "env_id": name} for name in ENVIRONMENTS]
        for data in (*settings, {"suite": "atari", "game": "pong"}):
            try:
                make_env(settings_from_dict(data)).close()
            except (SndqnError, gymnasium.error.Error):
                continue
