"""MinAtar's five games (Young and Tian, 2019, arXiv:1903.03176) as Gymnasium environments.

The games themselves come from the package MinAtar, unchanged. Importing that package imports
seaborn and matplotlib for its own display, which takes seconds, so the one module that holds a
game is loaded by its path; it needs numpy only.
"""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sndqn.envs.settings import MinAtarSettings
from sndqn.errors import ConfigError, MissingExtraError

Pixels = npt.NDArray[np.uint8]

# Background first, then one colour per channel; a higher channel covers a lower one.
_PALETTE = np.array(
    [
        (24, 26, 38),
        (86, 180, 233),
        (240, 228, 66),
        (213, 94, 0),
        (0, 158, 115),
        (204, 121, 167),
        (230, 159, 0),
        (110, 134, 255),
        (235, 235, 235),
        (148, 103, 72),
        (178, 223, 138),
    ],
    dtype=np.uint8,
)


@cache
def _load_game(game: str) -> ModuleType:
    """Loads the module of one game without importing its package."""
    package = importlib.util.find_spec("minatar")
    if package is None or package.origin is None:
        raise MissingExtraError(
            'MinAtar is not installed; type: pip install "sndqn[minatar]"', name="minatar"
        )
    path = Path(package.origin).parent / "environments" / f"{game}.py"
    spec = importlib.util.spec_from_file_location(f"minatar_{game}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class MinAtarEnv(gymnasium.Env[Pixels, Any]):
    """A MinAtar game with channel-first observations and exact seeds.

    Observations are uint8 of 0 and 1, shape (channels, 10, 10). Equal to MinAtar's own
    `Environment` under the same seed and actions, but for one thing: there the action that a
    sticky first step repeats is left over from the previous game, here it is the no-op.

    Args:
        settings: The game and its conventions.
        render_mode: None or `rgb_array`: frames (10, 10, 3), one pixel per cell.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - Gymnasium's

    def __init__(self, settings: MinAtarSettings, render_mode: str | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode: expected None or 'rgb_array', found {render_mode!r}")
        self.settings = settings
        self.render_mode = render_mode
        self._start_console(seed=None)
        minimal = self._game.minimal_action_set()
        self._actions: list[int] = minimal if settings.minimal_actions else list(range(6))
        height, width, channels = self._game.state_shape()
        self.action_space = spaces.Discrete(len(self._actions))
        if 0 < settings.n_channels < channels:
            raise ConfigError(
                f"n_channels: {settings.name} has {channels} channels, found "
                f"{settings.n_channels}: type 10, which suits all games, or leave it out"
            )
        self._empty = max(settings.n_channels - channels, 0)
        channels += self._empty
        self.observation_space = spaces.Box(0, 1, (channels, height, width), np.uint8)
        self._levels = np.arange(1, channels + 1, dtype=np.uint8)[:, None, None]

    def _start_console(self, seed: int | None) -> None:
        """Makes the game anew, so that nothing from before a seeded reset can matter."""
        self._game = _load_game(self.settings.game).Env(ramping=self.settings.difficulty_ramping)
        # One stream for sticky actions and for the game, as in MinAtar's Environment.
        self._random = self._game.random = np.random.RandomState(seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Pixels, dict[str, Any]]:
        """Starts a game; a seed, from 0 to 2**32 - 1, makes everything before it irrelevant."""
        super().reset(seed=seed)
        if seed is not None:
            self._start_console(seed)
        self._game.reset()
        self._last_action = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[Pixels, float, bool, bool, dict[str, Any]]:
        """Takes one of the actions, or repeats the last one if the game's draw is sticky."""
        if self._random.random_sample() >= self.settings.sticky_actions:
            self._last_action = self._actions[action]
        reward, terminated = self._game.act(self._last_action)
        return self._observe(), float(reward), bool(terminated), False, {}

    def _observe(self) -> Pixels:
        # A bool is one byte, 0 or 1: the view costs nothing.
        state: npt.NDArray[np.bool_] = self._game.state()
        observation = np.ascontiguousarray(state.transpose(2, 0, 1)).view(np.uint8)
        return (
            np.pad(observation, ((0, self._empty), (0, 0), (0, 0))) if self._empty else observation
        )

    def get_action_meanings(self) -> list[str]:
        """Returns the actions' names in the order of their numbers."""
        names = ("NOOP", "LEFT", "UP", "RIGHT", "DOWN", "FIRE")
        return [names[action] for action in self._actions]

    def render(self) -> Pixels:
        """Returns the game as an RGB frame of shape (10, 10, 3)."""
        frame: Pixels = _PALETTE[(self._observe() * self._levels).max(axis=0)]
        return frame
