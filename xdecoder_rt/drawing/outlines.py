"""Outlines of regions that may overlap, each legible over whatever lies under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdecoder_rt.drawing.certainty import dashes, is_unsure, presence

__all__ = ["RegionOutline", "edges", "paint_outlines"]

_FILL_ALPHA = 0.34
_PALEST = 0.2  # share of its alpha that is left to the tint of a region of 0 %
_CASING_ALPHA = 0.8
_CASING_COLOUR = 16

_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RegionOutline:
    """The outline of one region, with its badge.

    Attributes:
        mask: bool ``[H, W]``; nothing is drawn for an empty one.
        badge: a short text that stands at the region.
        colour: sRGB, each 0 to 255.
        score: under 0.5 the line is thinner and dashed, and the tint paler.
    """

    mask: _Mask
    badge: str
    colour: tuple[int, int, int]
    score: float = 1.0


def edges(indices: npt.NDArray[np.generic], width: int) -> _Mask:
    """Mark pixels of a map ``[H, W]`` with another value within `width` pixels along an axis."""
    edge = np.zeros(indices.shape, dtype=bool)
    for distance in range(1, width + 1):
        below = indices[distance:] != indices[:-distance]
        edge[distance:] |= below
        edge[:-distance] |= below
        beside = indices[:, distance:] != indices[:, :-distance]
        edge[:, distance:] |= beside
        edge[:, :-distance] |= beside
    return edge


def paint_outlines(
    pixels: npt.NDArray[np.uint8], outlines: Sequence[RegionOutline], *, filled: bool
) -> None:
    """Paint outlines in place: a line inside each region's border, with a dark casing around it.

    Where borders of several regions meet, their colours take turns along the line, so that two
    names of one thing are both to be seen.

    Args:
        pixels: RGB, ``[H, W, 3]``.
        outlines: each of the picture's size.
        filled: whether to tint the regions, too.
    """
    width = max(2, round(min(pixels.shape[:2]) / 180))
    casing_width = max(1, round(width / 2))
    windows = [_window(outline.mask, casing_width) for outline in outlines]
    windowed_outlines = [
        (outline, window)
        for outline, window in zip(outlines, windows, strict=True)
        if window is not None
    ]
    if filled:
        for outline, window in windowed_outlines:
            strength = _PALEST + (1 - _PALEST) * presence(outline.score)
            _blend(pixels[window], outline.mask[window], outline.colour, strength * _FILL_ALPHA)
    casing = np.zeros(pixels.shape[:2], dtype=bool)
    sharers = np.zeros(pixels.shape[:2], dtype=np.uint16)
    lines = []
    for outline, window in windowed_outlines:
        inside = outline.mask[window]
        around = _border(inside, casing_width) & ~inside
        if is_unsure(outline.score):
            drawn = dashes(pixels.shape[:2], width)[window]
            around &= drawn
            line = _border(inside, max(1, width // 2)) & inside & drawn
        else:
            line = _border(inside, width) & inside
        casing[window] |= around
        sharers[window] += line
        lines.append(line)
    # A line lies over every casing: one region's casing must not cut another's line.
    dark = (_CASING_COLOUR,) * 3
    _blend(pixels, casing & (sharers == 0), dark, _CASING_ALPHA)
    down, across = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    turn = (down + across) // (4 * width) % np.maximum(sharers, 1)
    lines_below = np.zeros(pixels.shape[:2], dtype=np.uint16)
    for (outline, window), line in zip(windowed_outlines, lines, strict=True):
        pixels[window][line & (lines_below[window] == turn[window])] = outline.colour
        lines_below[window] += line


def _window(mask: _Mask, margin: int) -> tuple[slice, slice] | None:
    """Return the part of the picture that a mask and a margin take; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + 1 + margin),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + 1 + margin),
    )


def _border(inside: _Mask, width: int) -> _Mask:
    """Mark pixels near a region's border, that of the picture included."""
    border = edges(np.pad(inside, width), width)
    return border[width:-width, width:-width]


def _blend(
    pixels: npt.NDArray[np.uint8], where: _Mask, colour: tuple[int, ...], alpha: float
) -> None:
    parts = round(256 * alpha)
    paint = (parts * np.array(colour)).astype(np.uint16)
    pixels[where] = (pixels[where] * np.uint16(256 - parts) + paint) >> 8
