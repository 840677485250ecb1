"""Fonts of drawn texts: the one built into Pillow, or a file."""

from __future__ import annotations

import math

from PIL import ImageDraw, ImageFont

from xdecoder_rt.errors import ArgumentError, quoted

__all__ = ["Font", "line_height", "load_font", "text_colour", "text_size"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_SMALLEST = 10


def text_size(width: int, height: int) -> int:
    """Return the size in pixels of texts on a picture of ``width x height`` pixels."""
    return max(_SMALLEST, round(math.sqrt(width * height) / 40))


def load_font(path: str | None, size: int) -> Font:
    """Load a font of a size in pixels; without a path, Pillow's own.

    Raises:
        ArgumentError: the file is no font.
    """
    try:
        return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)
    except OSError as error:
        raise ArgumentError(
            f"The font {quoted(path)} cannot be read", expected="a TrueType or OpenType file"
        ) from error


def line_height(draw: ImageDraw.ImageDraw, font: Font) -> int:
    """Return the height in pixels of any line in a font, whatever its letters."""
    return int(draw.textbbox((0, 0), "Ág", font=font)[3])


def text_colour(ground: tuple[int, ...]) -> tuple[int, int, int]:
    """Return black or white, whichever contrasts more with sRGB `ground` (luminance of WCAG 2)."""
    linear = [(channel / 255) ** 2.2 for channel in ground[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (16, 16, 16) if luminance > 0.18 else (255, 255, 255)
