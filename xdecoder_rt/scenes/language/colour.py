"""The colour of a segment in a word, measured from its pixels, where nobody would dispute it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOURS", "NEAR", "colour_shares", "colour_word"]

COLOURS: Final = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey",
)  # fmt: skip
"""The words; index i + 1 of `colour_shares` is word i, index 0 what has no certain word."""

NEAR: Final = frozenset(
    frozenset(pair.split())
    for pair in (
        "red orange", "red pink", "red brown", "orange yellow", "orange brown", "orange pink",
        "yellow green", "green blue", "blue purple", "purple pink", "brown black", "black grey",
        "grey white", "white yellow", "brown grey", "pink white", "yellow brown", "purple red",
        "purple brown", "blue grey", "blue black", "green black",
    )
)  # fmt: skip
"""Pairs of words that people may both find fitting."""

LEAST_SHARE: Final = 0.65
"""A colour is a segment's if at least this share of its pixels clearly has it ..."""
MOST_OTHER: Final = 0.12
"""... and no other clear colour has more than this share ..."""
MOST_OUTLINE: Final = 0.25
"""... or, of black, white and grey beside a chromatic colour, and black beside white, this."""
LEAST_LIGHT: Final = 0.45
"""In a picture whose lightest tenth is darker than this, dull colours are not certain."""

_BITS: Final = 5  # of a channel, in the table of colours
_DULL: Final = frozenset({"brown", "black", "white", "grey"})
_OUTLINES: Final = frozenset({"black", "white", "grey"})

# Hue in degrees, saturation and value in 0 to 1: from, to. The gaps between have no certain word.
_CLEAR: Final[tuple[tuple[str, tuple[float, ...]], ...]] = (
    ("red", (0, 11, 0.62, 1, 0.4, 1)),
    ("red", (349, 360, 0.62, 1, 0.4, 1)),
    ("orange", (21, 38, 0.65, 1, 0.7, 1)),
    ("yellow", (47, 64, 0.5, 1, 0.68, 1)),
    ("green", (82, 160, 0.35, 1, 0.25, 1)),
    ("blue", (200, 243, 0.42, 1, 0.3, 1)),
    ("purple", (265, 300, 0.32, 1, 0.28, 1)),
    ("pink", (310, 348, 0.2, 0.75, 0.72, 1)),
    ("pink", (348, 360, 0.2, 0.5, 0.8, 1)),
    ("brown", (13, 36, 0.38, 0.85, 0.2, 0.52)),
    ("black", (0, 360, 0, 1, 0, 0.14)),
    ("black", (0, 360, 0, 0.25, 0.14, 0.2)),
    ("white", (0, 360, 0, 0.1, 0.86, 1)),
    ("grey", (0, 360, 0, 0.1, 0.34, 0.6)),
)


@cache
def _table() -> NDArray[np.uint8]:
    """Return the word's index of each colour: [2^15] uint8, red in the highest bits."""
    steps = 1 << _BITS
    level = (np.arange(steps) + 0.5) / steps
    rgb = np.stack(np.meshgrid(level, level, level, indexing="ij"), -1).reshape(-1, 3)
    value = rgb.max(1)
    spread = value - rgb.min(1)
    safe = np.where(spread > 0, spread, 1)
    r, g, b = rgb.T
    hue = np.where(
        value == r, (g - b) / safe % 6, np.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4)
    )
    hue = np.where(spread > 0, hue * 60, 0)
    saturation = spread / value
    table = np.zeros(steps**3, np.uint8)
    for word, (h0, h1, s0, s1, v0, v1) in _CLEAR:
        inside = (hue >= h0) & (hue <= h1) & (saturation >= s0) & (saturation <= s1)
        inside &= (value >= v0) & (value <= v1)
        table[inside & (table == 0)] = COLOURS.index(word) + 1
    return table


def colour_shares(
    image: NDArray[np.uint8], places: NDArray[np.integer[Any]], count: int
) -> NDArray[np.float64]:
    """Return the share of each segment's pixels that has each clear colour.

    Args:
        image: H x W x 3 uint8 RGB.
        places: H x W integers, 0 to `count` - 1: the segment of each pixel.
        count: How many segments.

    Returns:
        count x 12: column 0 is the share without a certain colour word, column i + 1 that of
        `COLOURS[i]`. The dull colours are counted as uncertain in a dark picture.
    """
    deep = (image >> (8 - _BITS)).astype(np.uint16)
    codes = (deep[..., 0] << (2 * _BITS)) | (deep[..., 1] << _BITS) | deep[..., 2]
    words = _table()[codes]
    kinds = len(COLOURS) + 1
    pairs = places.astype(np.intp) * kinds + words
    counts = np.bincount(pairs.ravel(), minlength=count * kinds).reshape(count, kinds)
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    light = image[::4, ::4].max(2)
    if np.percentile(light, 90) < 255 * LEAST_LIGHT:
        for word in _DULL:
            column = COLOURS.index(word) + 1
            shares[:, 0] += shares[:, column]
            shares[:, column] = 0
    return shares


def colour_word(shares: NDArray[np.float64]) -> str:
    """Return a segment's colour from its row of `colour_shares`; "" where it is not certain."""
    best = int(np.argmax(shares[1:]))
    if shares[best + 1] < LEAST_SHARE:
        return ""
    word = COLOURS[best]
    outlines = {"black"} if word == "white" else _OUTLINES if word not in _DULL else frozenset()
    for colour, share in zip(COLOURS, shares[1:].tolist(), strict=True):
        if colour != word and share > (MOST_OUTLINE if colour in outlines else MOST_OTHER):
            return ""
    return word
