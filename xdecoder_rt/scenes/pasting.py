"""Where a picture is pasted into another."""

from __future__ import annotations

import numpy as np

AreaSlices = tuple[slice, slice]


def random_placement(
    rng: np.random.Generator, size: tuple[int, int], canvas: tuple[int, int]
) -> tuple[int, int, AreaSlices, AreaSlices]:
    """Draw a place at random, reaching over the canvas's edges by at most about an eighth.

    Args:
        rng: decides.
        size: of what is pasted: height and width.
        canvas: the same of what it is pasted into.

    Returns:
        Its top and left; what it covers of the canvas; and which part of it that is.
    """
    (h, w), (height, width) = size, canvas
    top = int(rng.integers(-h // 8, max(1, height - h + h // 8)))
    left = int(rng.integers(-w // 8, max(1, width - w + w // 8)))
    rows = slice(max(0, top), min(height, top + h))
    columns = slice(max(0, left), min(width, left + w))
    inner = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    return top, left, (rows, columns), inner
