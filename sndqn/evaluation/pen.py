"""Boxes and letters, drawn into a picture."""

import math
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageFont

Colour = tuple[int, int, int]
BACKGROUND: Colour = (22, 24, 31)
TRACK: Colour = (42, 46, 58)
TEXT: Colour = (232, 234, 240)
FAINT: Colour = (150, 156, 172)
BAR: Colour = (92, 124, 178)
GREEDY: Colour = (80, 200, 140)
RANDOM: Colour = (240, 130, 80)


class Pen:
    """Draws boxes and letters on the background.

    Args:
        picture: RGB uint8 (height, width, 3), drawn into.
        zoom: Pixels per unit of all lengths here.
    """

    def __init__(self, picture: np.ndarray, zoom: float) -> None:
        self.picture, self.zoom = picture, zoom

    def width(self, text: str, size: float) -> float:
        """Returns how wide a text will be."""
        widths = [int(_letter(letter, size * self.zoom, TEXT).shape[1]) for letter in text]
        return sum(widths) / self.zoom

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: Colour,
        side: Literal["left", "right"] = "left",
    ) -> None:
        """Writes text on the background, its middle at y and its left or right side at x."""
        letters = [_letter(letter, size * self.zoom, colour) for letter in text]
        left = round(x * self.zoom)
        if side == "right":
            left -= sum(letter.shape[1] for letter in letters)
        for letter in letters:
            top = max(round(y * self.zoom - letter.shape[0] / 2), 0)
            room = self.picture[top : top + letter.shape[0], left : left + letter.shape[1]]
            room[:] = letter[: room.shape[0], : room.shape[1]]
            left += letter.shape[1]

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fills a box."""
        x, y = round(left * self.zoom), round(top * self.zoom)
        end, low = round(right * self.zoom), round(bottom * self.zoom)
        self.picture[y : max(low, y + 1), x : max(end, x + 1)] = colour


@cache
def _font(size: float) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(size)


@cache
def _letter(letter: str, size: float, colour: Colour) -> np.ndarray:
    """Returns a letter on the background; to draw it takes longer than to copy a hundred."""
    from PIL import Image, ImageDraw

    font = _font(size)
    width, height = max(round(font.getlength(letter)), 1), math.ceil(1.3 * size)
    picture = Image.new("RGB", (width, height), BACKGROUND)
    ImageDraw.Draw(picture).text((0, height / 2), letter, font=font, fill=colour, anchor="lm")
    return np.asarray(picture)
