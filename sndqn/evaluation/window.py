"""Frames to a window on the screen."""

import os
from collections.abc import Iterable

import numpy as np

from sndqn.errors import ConfigError
from sndqn.evaluation.panel import MIN_HEIGHT, checked_frame, enlarge


def show_window(
    frames: Iterable[np.ndarray],
    fps: float,
    *,
    title: str = "sndqn",
    min_height: int = MIN_HEIGHT,
) -> int:
    """Play frames in a window until they run out or the window is closed (Escape and Q, too).

    Args:
        frames: As for `write_video`.
        fps: Frames per second.
        title: Title of the window.
        min_height: Height in pixels to enlarge to.

    Returns:
        The number of frames shown.

    Raises:
        ConfigError: There is no display, or a frame is not RGB.
    """
    # A banner on every start is not ours to print.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    shown = 0
    window: pygame.Surface | None = None
    clock = pygame.time.Clock()
    _open_display()
    try:
        for frame in frames:
            picture = enlarge(checked_frame(frame), min_height)
            if window is None:
                window = pygame.display.set_mode((picture.shape[1], picture.shape[0]))
                pygame.display.set_caption(title)
            if _is_closed():
                break
            # pygame counts columns first.
            window.blit(pygame.surfarray.make_surface(picture.swapaxes(0, 1)), (0, 0))
            pygame.display.flip()
            shown += 1
            clock.tick(fps)
    finally:
        pygame.display.quit()
    return shown


def _open_display() -> None:
    import pygame

    requested = os.environ.get("SDL_VIDEODRIVER")
    try:
        pygame.display.init()
        # Without a display SDL draws into memory and reports success.
        if pygame.display.get_driver() != "offscreen" or requested:
            return
        reason = "none"
    except pygame.error as error:
        reason = str(error)
    pygame.display.quit()
    raise ConfigError(
        f"expected a display for the window, found: {reason}; "
        "drop the window option and write a video file instead"
    )


def _is_closed() -> bool:
    import pygame

    for event in pygame.event.get():
        if event.type == pygame.QUIT:
            return True
        if event.type == pygame.KEYDOWN and event.key in (pygame.K_ESCAPE, pygame.K_q):
            return True
    return False
