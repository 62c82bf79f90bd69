"""A window on the screen: pictures to it, keys from it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np

from sndqn.errors import ConfigError


@contextmanager
def drawing_unseen() -> Iterator[None]:
    """Has pygame draw into memory: it looks for no display then, and complains of none."""
    before = os.environ.get("SDL_VIDEODRIVER")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        yield
    finally:
        if before is None:
            del os.environ["SDL_VIDEODRIVER"]


class Window:
    """A window: `with Window("title") as window:`. It opens with the first picture.

    Args:
        title: Stands above it.
        remedy: What to type instead where there is no display.
    """

    def __init__(self, title: str, remedy: str) -> None:
        self.title, self.remedy = title, remedy
        self._surface: Any = None

    def __enter__(self) -> "Window":
        """Finds the display.

        Raises:
            ConfigError: There is none.
        """
        # A banner on every start is not ours to print.
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        reason = self._find_display()
        if reason is not None:
            raise ConfigError(f"expected a display for the window, found {reason}. {self.remedy}")
        return self

    def _find_display(self) -> str | None:
        """Opens the display; returns why there is none, if so."""
        import pygame

        requested = os.environ.get("SDL_VIDEODRIVER")
        named = [os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")]
        if not (requested or any(named) or sys.platform in ("win32", "darwin")):
            return "none"  # SDL would complain of each kind it looks for
        try:
            pygame.display.init()
        except pygame.error as error:
            return f"none ({error})"
        if pygame.display.get_driver() == "offscreen" and not requested:
            # Without a display SDL draws into memory and reports success.
            pygame.display.quit()
            return "none that can be opened"
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Closes it."""
        import pygame

        pygame.display.quit()

    @property
    def is_open(self) -> bool:
        """Whether it is on the screen: environments that draw with pygame shut it down at times."""
        import pygame

        return self._surface is not None and pygame.display.get_surface() is self._surface

    def show(self, picture: np.ndarray) -> None:
        """Shows a picture, RGB uint8 (height, width, 3); the window takes its size."""
        import pygame

        size = (picture.shape[1], picture.shape[0])
        if not self.is_open or size != self._surface.get_size():
            pygame.display.init()
            self._surface = pygame.display.set_mode(size)
            pygame.display.set_caption(self.title)
        self._surface.blit(pygame.image.frombuffer(picture.tobytes(), size, "RGB"), (0, 0))
        pygame.display.flip()

    def pressed_keys(self) -> Iterator[str]:
        """Yields the keys that were pressed since the last call, as `Controls.press` takes them."""
        import pygame

        for event in pygame.event.get() if self.is_open else ():
            if event.type == pygame.QUIT:
                yield "close"
            elif event.type == pygame.KEYDOWN:
                # What a key types depends on the keyboard: "+" is shift and "=" on some.
                typed = getattr(event, "unicode", "").strip().lower()
                yield typed if typed.isprintable() and typed else pygame.key.name(event.key)
            elif event.type == pygame.VIDEOEXPOSE:  # something that covered it is gone
                pygame.display.flip()
