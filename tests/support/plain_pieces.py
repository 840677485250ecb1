"""Connected pieces by flood filling, pixel by pixel: what the compiled loops are compared with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.bool_]


def pieces(mask: Array) -> list[Array]:
    """Return the pieces of a mask; pixels that touch at a side or a corner are of one."""
    height, width = mask.shape
    waiting = set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))
    found = []
    while waiting:
        piece, edge = np.zeros_like(mask), [waiting.pop()]
        while edge:
            y, x = edge.pop()
            piece[y, x] = True
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in waiting:
                    waiting.remove(near)
                    edge.append(near)
        found.append(piece)
    return found


def cleaned(mask: Array, share: float) -> Array:
    """Return a mask without the pieces below a share of its largest."""
    kept = np.zeros_like(mask)
    found = pieces(mask)
    largest = max((np.count_nonzero(piece) for piece in found), default=0)
    for piece in found:
        if np.count_nonzero(piece) >= share * largest:
            kept |= piece
    return kept
