"""Colours and printed labels for made-up objects."""

from __future__ import annotations

import colorsys
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from xdecoder_rt.scenes.meshes.shapes import Colour

__all__ = ["NAMED_COLOURS", "any_colour", "label_picture", "named_colour", "tinted"]

NAMED_COLOURS: Final[dict[str, Colour]] = {
    "red": (0.8, 0.1, 0.1),
    "green": (0.15, 0.6, 0.2),
    "blue": (0.12, 0.25, 0.8),
    "yellow": (0.95, 0.82, 0.12),
    "orange": (0.95, 0.5, 0.08),
    "purple": (0.48, 0.18, 0.6),
    "pink": (0.95, 0.5, 0.65),
    "brown": (0.42, 0.26, 0.14),
    "black": (0.06, 0.06, 0.07),
    "white": (0.95, 0.95, 0.94),
    "grey": (0.5, 0.5, 0.52),
}
"""Colour words and the colours that nobody would dispute; jittered when used."""


def named_colour(rng: np.random.Generator) -> tuple[str, Colour]:
    """A colour word and a colour close to its middle."""
    word = list(NAMED_COLOURS)[int(rng.integers(len(NAMED_COLOURS)))]
    base = np.asarray(NAMED_COLOURS[word])
    red, green, blue = np.clip(base + rng.uniform(-0.05, 0.05, 3), 0, 1).tolist()
    return word, (red, green, blue)


def any_colour(rng: np.random.Generator) -> Colour:
    """Any colour a product may have; vivid ones more often than not."""
    return tinted(rng, 0.95, 0.25, 1.0)


def tinted(rng: np.random.Generator, saturation: float, dark: float, light: float) -> Colour:
    """A random hue with a saturation up to `saturation` and a value from `dark` to `light`."""
    return colorsys.hsv_to_rgb(
        float(rng.random()), float(rng.uniform(0, saturation)), float(rng.uniform(dark, light))
    )


def label_picture(
    rng: np.random.Generator, height: int = 96, width: int = 128
) -> NDArray[np.uint8]:
    """A made-up product label: a ground, bands, blobs and lines that look like print."""

    def colour() -> tuple[int, int, int]:
        r, g, b = any_colour(rng)
        return int(255 * r), int(255 * g), int(255 * b)

    picture = Image.new("RGB", (width, height), colour())
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 4))):
        top = int(rng.integers(0, height))
        draw.rectangle((0, top, width, top + int(rng.integers(4, height // 2))), fill=colour())
    for _ in range(int(rng.integers(0, 4))):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        r = int(rng.integers(6, 26))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour())
    ink = colour()
    for _ in range(int(rng.integers(1, 6))):
        x, y = int(rng.integers(0, width // 2)), int(rng.integers(0, height))
        for _ in range(int(rng.integers(3, 9))):
            w = int(rng.integers(3, 10))
            draw.rectangle((x, y, x + w, y + int(rng.integers(4, 9))), fill=ink)
            x += w + 3
    return np.asarray(picture)
