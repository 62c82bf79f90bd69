"""The screen of an Atari game: every frame in colour, from a second emulator in lock step."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sndqn.envs.settings import AtariSettings

Pixels = npt.NDArray[np.uint8]
_NOOP = 0


class AtariScreen:
    """Follows ale-py's vector environment, which gives stacks of grey frames or colour, not both.

    Equal settings, seeds and actions give equal frames: the emulator below is the same. How many
    frames to emulate is read off the frame numbers of the one that is followed.

    Args:
        settings: The game and its protocol.
        actions: The emulator's actions, in the order of their numbers.

    Attributes:
        frames: Every frame of the newest step, the newest last; of a reset, the last frame alone.
            RGB, of the screen's own size, (210, 160, 3) with few exceptions.
    """

    def __init__(self, settings: AtariSettings, actions: Sequence[Any]) -> None:
        from ale_py import ALEInterface, LoggerMode, roms

        ALEInterface.setLoggerMode(LoggerMode.Error)
        self._ale = ALEInterface()
        self._ale.setFloat("repeat_action_probability", settings.sticky_actions)
        rom = roms.get_rom_path(settings.game)
        assert rom is not None
        self._rom = rom
        self._skip = settings.frame_skip
        self._actions = actions
        self._before: Pixels = np.zeros((0, 0, 3), np.uint8)
        self.frames: list[Pixels] = []

    def reset(self, seed: int | None, info: dict[str, Any], hidden: Sequence[int]) -> None:
        """Starts a game.

        Args:
            seed: Loads the ROM anew; None goes on with the random numbers.
            info: Of the emulator that is followed, after its reset.
            hidden: Actions of whole steps that this reset made, after its no-ops.
        """
        if seed is not None:
            self._ale.setInt("random_seed", seed)
            self._ale.loadROM(self._rom)
        self._ale.reset_game()
        self._show()
        while self._ale.getFrameNumber() + self._skip * len(hidden) < info["frame_number"]:
            self._emulate(_NOOP)
        self.step(hidden, info)
        del self.frames[:-1]

    def step(self, actions: Iterable[int], info: dict[str, Any]) -> None:
        """Takes the actions of a step, one and those that are hidden from the agent.

        Args:
            actions: Their numbers.
            info: Of the emulator that is followed, after the step.
        """
        self._before = self.frames[-1]
        shown, self.frames = self.frames, []
        for action in actions:
            for _ in range(self._skip):
                if self._ale.getFrameNumber() < info["frame_number"]:
                    self._emulate(action)
        self.frames = self.frames or shown
        assert self._ale.getFrameNumber() == info["frame_number"]
        assert self._ale.lives() == info["lives"]

    def pooled(self) -> Pixels:
        """Returns the maximum of the last two frames, as observations are pooled."""
        before = self.frames[-2] if len(self.frames) > 1 else self._before
        return np.maximum(before, self.frames[-1])

    def _emulate(self, action: int) -> None:
        self._ale.act(self._actions[action])
        self._show()

    def _show(self) -> None:
        self.frames.append(self._ale.getScreenRGB())
