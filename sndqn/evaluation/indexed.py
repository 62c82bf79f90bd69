"""Pictures of at most 256 colours, as GIF has them."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import numpy as np

from sndqn.evaluation.pen import BACKGROUND, FAINT, GREEDY, RANDOM, TEXT

_MOST = 256
# Levels of a channel by which colours may differ and be one: edges of letters have hundreds.
_TOLERANCE = 8
# Of a picture. A colour that covers more is an area's, and stays exact.
_SHARE_OF_AREAS = 1 / 500
# New colours in a picture that was drawn; a photograph has more.
_MOST_DRAWN = 4096
_OPAQUE = 0xFF000000
# From one palette to another, ffmpeg writes whole pictures instead of what changes.
_SEEN_AHEAD = 32


def indexed(frames: Iterable[np.ndarray]) -> Iterator[bytes]:
    """Yields pictures, uint8 (height, width, 3), as ffmpeg's raw pixel format pal8."""
    frames, index = iter(frames), Indexed()
    first = list(islice(frames, _SEEN_AHEAD))
    for frame in first:
        index(frame)
    for frame in chain(first, frames):
        yield index(frame)


class Indexed:
    """Turns pictures into indices of one palette, which grows as colours come.

    Drawn pictures have few colours, which stay exact but for near ones, as on the edge of a letter.
    A picture that brings more than there is room for, such as a photograph, begins a palette of its
    own.
    """

    def __init__(self) -> None:
        # By colour, as 0xBBGGRR: its place in the palette, or -1.
        self._places = np.full(1 << 24, -1, np.int16)
        self._known: list[np.ndarray] = []
        self._palette = np.empty((0, 3), np.int16)
        self._before = self._indices = np.empty(0, np.uint8)
        # Of all letters: panels show them in any colour at any time.
        shares = np.linspace(0, 1, _MOST // _TOLERANCE)[:, None]
        for colour in (TEXT, FAINT, GREEDY, RANDOM):
            ramp = (1 - shares) * BACKGROUND + shares * colour
            self._learn(_colours(np.rint(ramp)[None].astype(np.uint8)))

    def __call__(self, frame: np.ndarray) -> bytes:
        """Returns a picture, uint8 (height, width, 3), as ffmpeg's raw pixel format pal8."""
        if self._before.shape != frame.shape:
            self._indices = np.empty(frame.shape[:2], np.uint8)
            changed = np.arange(len(frame))
        else:
            changed = np.flatnonzero((frame != self._before).any(axis=(1, 2)))
        self._before = frame
        if len(changed):
            colours = _colours(frame[changed])
            places = self._places[colours]
            if places.min() < 0 and self._learn(colours[places < 0]):
                places = self._places[colours]
            self._indices[changed] = places
            if places.min() < 0:
                self._indices = self._begin_anew(frame)
        red, green, blue = self._palette.astype(np.uint32).T
        palette = np.full(_MOST, _OPAQUE, "<u4")
        palette[: len(self._palette)] = _OPAQUE | red << 16 | green << 8 | blue
        content: bytes = self._indices.tobytes() + palette.tobytes()
        return content

    def _learn(self, colours: np.ndarray) -> bool:
        """Gives colours places, their own or those of near ones; False where there is no room."""
        new, counts = np.unique(colours, return_counts=True)
        exact = new[counts > self._indices.size * _SHARE_OF_AREAS]
        new = new[np.argsort(-counts, kind="stable")]
        if len(new) > _MOST_DRAWN:
            return False
        self._known.append(new)
        for colour, channels in zip(new, _channels(new), strict=True):
            distances = np.abs(self._palette - channels).max(axis=1)
            nearest = distances.min(initial=_MOST)
            if nearest == 0 or (nearest <= _TOLERANCE and colour not in exact):
                self._places[colour] = distances.argmin()
            elif len(self._palette) == _MOST:
                return False
            else:
                self._places[colour] = len(self._palette)
                self._palette = np.concatenate([self._palette, channels[None]])
        return True

    def _begin_anew(self, frame: np.ndarray) -> np.ndarray:
        """Takes the palette that is best for one picture; returns its indices."""
        from PIL import Image

        picture = Image.fromarray(frame).quantize(_MOST, dither=Image.Dither.NONE)
        indices, colours = np.array(picture), _colours(frame)
        self._palette = np.array(picture.getpalette(), np.int16).reshape(-1, 3)
        for known in self._known:
            self._places[known] = -1
        self._known = [np.unique(colours)]
        self._places[colours] = indices
        return indices


def _colours(frame: np.ndarray) -> np.ndarray:
    """Makes one number of each pixel."""
    padded = np.zeros((*frame.shape[:2], 4), np.uint8)
    padded[..., :3] = frame
    return padded.view("<u4")[..., 0]


def _channels(colours: np.ndarray) -> np.ndarray:
    """Takes colours apart, shape (n, 3)."""
    return np.stack([colours >> shift & 0xFF for shift in (0, 8, 16)], axis=1).astype(np.int16)
