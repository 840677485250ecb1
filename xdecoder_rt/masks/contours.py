"""Masks as polygons, for tools and formats that know no run lengths.

A contour runs along the edges of pixels, so that its corners are whole numbers and it encloses
exactly the pixels of its mask. Pixels that touch at a corner alone are two pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["contours", "joined", "polygons_of", "simplified"]

Ring = npt.NDArray[np.float64]
"""Corners of a closed line, ``[N, 2]``, x and y in pixels; the last leads to the first."""

_RIGHT, _DOWN, _LEFT, _UP = range(4)
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
TOLERANCE = 1.0
"""How far a corner may lie from the line that replaces it, in pixels: the stairs of a slant."""


def contours(mask: npt.NDArray[np.bool_]) -> list[Ring]:
    """Return every closed line around pixels of a mask, those around its holes included.

    Args:
        mask: bool ``[H, W]``.

    Returns:
        Rings of corners, each with its pixels on the right as seen along it: around pixels
        clockwise (as y points down), around holes the other way. None for an empty mask.
    """
    ways = _ways(np.pad(np.asarray(mask, bool), 1))
    rings = []
    while ways:
        place = next(iter(ways))
        rings.append(_follow(ways, place))
    return rings


def simplified(ring: Ring, tolerance: float = TOLERANCE) -> Ring:
    """Return a ring without the corners that lie within `tolerance` pixels of the line past them.

    The algorithm is Douglas and Peucker's, from the two corners that are farthest apart along the
    ring's first axis of extent. A ring of fewer than four corners comes back as it is.
    """
    if len(ring) < 4:
        return ring
    start = int(np.lexsort((ring[:, 1], ring[:, 0]))[0])
    turned = np.roll(ring, -start, axis=0)
    far = int(((turned - turned[0]) ** 2).sum(axis=1).argmax())
    closed = np.vstack([turned, turned[:1]])
    kept = np.zeros(len(closed), np.bool_)
    kept[[0, far, -1]] = True
    parts = [(0, far), (far, len(closed) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        distances = _distances(closed[first + 1 : last], closed[first], closed[last])
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            middle = first + 1 + worst
            kept[middle] = True
            parts += [(first, middle), (middle, last)]
    result: Ring = closed[:-1][kept[:-1]]
    return result if len(result) >= 3 else ring


def joined(rings: Sequence[Ring]) -> Ring:
    """Return one ring that encloses what several do, holes left out.

    Each further ring is reached over a bridge of no width, there and back, from the corner that is
    nearest to it. Formats of one polygon an object (YOLO's) hold pieces and holes in this way.
    """
    whole, *others = sorted(rings, key=len, reverse=True)
    for ring in others:
        apart = ((whole[:, None] - ring[None]) ** 2).sum(axis=2)
        place, entry = divmod(int(apart.argmin()), len(ring))
        around = np.roll(ring, -entry, axis=0)
        whole = np.vstack([whole[: place + 1], around, around[:1], whole[place:]])
    return whole


def polygons_of(mask: npt.NDArray[np.bool_], tolerance: float = TOLERANCE) -> list[Ring]:
    """Return the simplified contours of a mask: pieces clockwise, holes the other way."""
    return [simplified(ring, tolerance) for ring in contours(mask)]


def _ways(inside: npt.NDArray[np.bool_]) -> dict[tuple[int, int], list[int]]:
    """Return the directions in which edges leave each corner, of a padded mask."""
    ways: dict[tuple[int, int], list[int]] = {}
    above, below = inside[:-1], inside[1:]
    before, after = inside[:, :-1], inside[:, 1:]
    # Of a row's edge the padded pixel (y, x) has its upper left corner at (x - 1, y - 1).
    for direction, edges, (right, down) in (
        (_RIGHT, below & ~above, (-1, 0)),
        (_LEFT, above & ~below, (0, 0)),
        (_UP, after & ~before, (0, 0)),
        (_DOWN, before & ~after, (0, -1)),
    ):
        rows, columns = np.nonzero(edges)
        for x, y in zip((columns + right).tolist(), (rows + down).tolist(), strict=True):
            ways.setdefault((x, y), []).append(direction)
    return ways


def _follow(ways: dict[tuple[int, int], list[int]], start: tuple[int, int]) -> Ring:
    """Return the corners of the ring from a place on, and take its edges away."""
    corners: list[tuple[int, int]] = []
    (x, y), direction = start, -1
    while (choices := ways.get((x, y))) is not None:
        turn = direction
        # Where two pieces meet at a corner, the turn to the right stays on the same one.
        for turn in ((direction + 1) % 4, direction, (direction + 3) % 4):
            if turn in choices:
                break
        if direction < 0:
            turn = choices[0]
        choices.remove(turn)
        if not choices:
            del ways[x, y]
        if turn != direction:
            corners.append((x, y))
        direction = turn
        x, y = x + _STEPS[turn][0], y + _STEPS[turn][1]
        if (x, y) == start:
            break
    ring: Ring = np.array(corners, np.float64)
    return ring


def _distances(points: Ring, first: Ring, last: Ring) -> npt.NDArray[np.float64]:
    """Return how far points lie from the line through two others, or from them if they are one."""
    along = last - first
    length = float(np.hypot(*along))
    apart = points - first
    distances: npt.NDArray[np.float64]
    if length == 0:
        distances = np.hypot(apart[:, 0], apart[:, 1])
    else:
        distances = np.abs(along[0] * apart[:, 1] - along[1] * apart[:, 0]) / length
    return distances
